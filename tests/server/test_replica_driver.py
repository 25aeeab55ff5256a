"""The replica driver: which errors stop the member; a stopped member acknowledges nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import cast

import pytest

from tercet import errors
from tercet.errors import InvariantViolation, StorageFailure
from tercet.mvcc import Apply
from tercet.peer import Transport
from tercet.proto import rpc_pb2
from tercet.raft import RaftConfig
from tercet.raft.types import Message
from tercet.replica.apply import ApplyTimer
from tercet.replica.auto_compaction import make_auto_compaction
from tercet.replica.membership import Member
from tercet.replica.recovery import restore, write_bootstrap_entries
from tercet.replica.replica import Options
from tercet.replica.requests import AppliedRequest
from tercet.replica.state_machine import StateMachine
from tercet.server.auto_compactor import AutoCompactor
from tercet.server.replica_driver import ReplicaDriver
from tercet.server.slow_requests import SlowApplies
from tercet.sim.filesystem import SimulatedFileSystem
from tercet.storage.log_store import ThreadedLogStore
from tercet.storage.memory_backend import MemoryBackend
from tercet.storage.wal import WAL
from tests.support.fakes import uses_fakes
from tests.support.waiting import scaled

PUT = rpc_pb2.PutRequest(key=b"k")


class NoPeers:
    """A transport that records messages."""

    def __init__(self) -> None:
        self.sent: list[Message] = []

    def send(self, messages: list[Message]) -> None:
        self.sent += messages


class Case:
    """The leader of a single-member cluster."""

    def __init__(
        self, files: SimulatedFileSystem, member: ReplicaDriver, failures: list[BaseException], apply_timer: ApplyTimer
    ) -> None:
        self.files = files
        self.apply_timer = apply_timer
        self.member = member
        self.failures = failures

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            await asyncio.sleep(0.002)

    def put(self) -> asyncio.Future[object]:
        """Propose a Put; the future has its outcome."""
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self.member.replica.propose("put", PUT.SerializeToString(), PUT, answer.set_result)
        return answer


@asynccontextmanager
async def running(tmp_path: Path) -> AsyncIterator[Case]:
    files = SimulatedFileSystem()
    failures: list[BaseException] = []
    wal = WAL.create(files, "wal", b"")
    recovered = write_bootstrap_entries(wal, [Member(1, ("http://127.0.0.1:1",))])
    backend = MemoryBackend()
    raft = restore(RaftConfig(id=1, random=Random(1)), wal, recovered, backend)
    members: list[ReplicaDriver] = []
    loop = asyncio.get_running_loop()
    # All writes in its thread, since writes in the loop have no callback.
    log_store = ThreadedLogStore(wal, loop, on_failure=lambda error: members[0].fail(error), inline_seconds_max=0)
    apply_timer = SlowApplies(0.05).timer
    apply_timer.clock = lambda: 0.0  # a loaded machine makes any apply slow
    member = ReplicaDriver(
        raft,
        log_store,
        StateMachine(backend),
        options=Options(),
        apply_timer=apply_timer,
        snapshot_directory=tmp_path,
        tick_seconds=0.01,
        compaction_limit=100,
        compaction_pause_seconds=0.01,
        on_failure=failures.append,
        on_removed=lambda: None,
    )
    members.append(member)
    case = Case(files, member, failures, apply_timer)
    member.start(cast(Transport, NoPeers()))
    await case.until(lambda: raft.is_leader and member.replica.applied_index == raft.log.last_index)
    try:
        yield case
    finally:
        member.stop()
        await member.close()
        log_store.close()


def run(tmp_path: Path, test: Callable[[Case], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(scaled(20)), running(tmp_path) as case:
            await test(case)

    asyncio.run(bounded())


def test_a_failed_fsync_stops_the_member_at_once(tmp_path: Path) -> None:
    async def test(case: Case) -> None:
        assert isinstance(await case.put(), bytes)
        case.files.fail_syncs = True
        answer = case.put()
        assert await answer is errors.STOPPED
        assert [type(failure) for failure in case.failures] == [StorageFailure]
        with pytest.raises(errors.Unavailable, match="server stopped"):
            case.put()
        hard_state = case.member.replica.raft.hard_state()
        await asyncio.sleep(0.05)
        assert case.member.replica.raft.hard_state() == hard_state
        assert len(case.failures) == 1

    run(tmp_path, test)


@pytest.mark.parametrize("error", [InvariantViolation("a bug"), ValueError("an entry of no form"), RecursionError()])
def test_an_unexpected_error_in_apply_stops_the_member(tmp_path: Path, error: Exception) -> None:
    async def test(case: Case) -> None:
        def fails(request: object) -> bytes:
            raise error

        case.member.replica.state_machine.handlers["put"] = fails
        lost = case.put()
        await case.until(lambda: case.failures)
        assert case.failures == [error]
        assert case.member.has_failed
        await asyncio.sleep(0.02)
        assert not lost.done(), "it is in the log, and its outcome is unknown"

    run(tmp_path, test)


def test_a_raising_callback_does_not_hide_the_failure(tmp_path: Path) -> None:
    async def test(case: Case) -> None:
        def raises(outcome: object) -> None:
            raise RuntimeError("in the callback")

        case.files.fail_syncs = True
        case.member.replica.propose("put", PUT.SerializeToString(), PUT, raises)
        await case.until(lambda: case.failures)
        assert [type(failure) for failure in case.failures] == [StorageFailure]

    run(tmp_path, test)


def test_only_a_slow_apply_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def test(case: Case) -> None:
        now = [0.0]
        case.apply_timer.clock = lambda: now[0]
        await case.put()
        handlers = case.member.replica.state_machine.handlers
        put = handlers["put"]

        def slowly(request: AppliedRequest) -> bytes | Apply:
            now[0] += 0.1
            return put(request)

        handlers["put"] = slowly
        await case.put()

    run(tmp_path, test)
    slow = [record.__dict__["fields"] for record in caplog.records if record.getMessage() == "apply request took too long"]
    assert [line["request"] for line in slow] == ['put:<key:"k" value_size:0 >']


def test_a_rejected_compaction_proposal_is_not_a_failure(tmp_path: Path) -> None:
    async def test(case: Case) -> None:
        for _ in range(5):
            await case.put()
        member, now = case.member, case.member.now()
        replica = member.replica
        policy = make_auto_compaction("revision", "2", now - 1000, 1)
        assert policy is not None
        compactor = AutoCompactor(replica, policy, member.now)
        replica.raft.applied_index -= 6000  # as where its own disk is slower than a quorum of the others
        compactor.run_if_due()
        replica.raft.applied_index += 6000
        assert case.failures == []
        assert isinstance(await case.put(), bytes)

    run(tmp_path, test)


@uses_fakes
def test_an_error_in_a_disk_callback_stops_the_member(tmp_path: Path) -> None:
    """Raft checks its invariants in `persisted`."""

    async def test(case: Case) -> None:
        def persisted(number: int) -> None:
            raise InvariantViolation("a durable term went back")

        case.member.replica._persisted = persisted  # type: ignore[method-assign]
        case.put()
        await case.until(lambda: case.failures)
        assert [str(failure) for failure in case.failures] == ["a durable term went back"]

    run(tmp_path, test)
