"""Locks and elections on etcd and tercet: the same scenes, and every answer, error and key must be the same."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from tercet.proto import election_pb2, lock_pb2, rpc_pb2
from tests.support.newer import VARIABLE, newer_etcd
from tests.support.processes import ETCD, Cluster, Member, wait_until

SECONDS = 20.0

_Key = election_pb2.LeaderKey
_METHODS: dict[str, tuple[Any, Any]] = {
    "v3lockpb.Lock/Lock": (lock_pb2.LockRequest, lock_pb2.LockResponse),
    "v3lockpb.Lock/Unlock": (lock_pb2.UnlockRequest, lock_pb2.UnlockResponse),
    "v3electionpb.Election/Campaign": (election_pb2.CampaignRequest, election_pb2.CampaignResponse),
    "v3electionpb.Election/Proclaim": (election_pb2.ProclaimRequest, election_pb2.ProclaimResponse),
    "v3electionpb.Election/Leader": (election_pb2.LeaderRequest, election_pb2.LeaderResponse),
    "v3electionpb.Election/Resign": (election_pb2.ResignRequest, election_pb2.ResignResponse),
}


class Stage:
    """One member. `log`: what its clients were told, in the order of the scene."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.client = client = member.client
        self.first = client.status().header.revision
        self.log: list[object] = []

    def grant(self, lease: int, ttl: int = 1000) -> None:
        self.client.call("Lease/LeaseGrant", rpc_pb2.LeaseGrantRequest(ID=lease, TTL=ttl), rpc_pb2.LeaseGrantResponse, SECONDS)

    def revoke(self, lease: int) -> None:
        self.client.call("Lease/LeaseRevoke", rpc_pb2.LeaseRevokeRequest(ID=lease), rpc_pb2.LeaseRevokeResponse, SECONDS)

    def begin(self, method: str, timeout: float = SECONDS, **fields: Any) -> Any:
        """A call that is not waited for."""
        request, response = _METHODS[method]
        called = self.client.channel.unary_unary(
            f"/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )
        return called.future(request(**fields), timeout=timeout)

    def end(self, future: Any) -> Any:
        """Log what the call was answered with; revisions count from the first of the scene."""
        try:
            answer = future.result()
        except grpc.RpcError as error:
            # The client's clock and the server's end a call at its deadline, whichever is first; the server may only reset it.
            is_late = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED or error.details() == "context deadline exceeded"
            self.log.append("gave up" if is_late else (error.code().name, error.details()))
            return None
        shown = type(answer)()
        shown.CopyFrom(answer)
        shown.header.CopyFrom(rpc_pb2.ResponseHeader(revision=answer.header.revision - self.first))
        for number in ("rev", "create_revision", "mod_revision"):
            for part in (getattr(shown, "leader", None), getattr(shown, "kv", None)):
                if part is not None and hasattr(part, number):
                    setattr(part, number, getattr(part, number) - self.first)
        self.log.append(shown)
        return answer

    def call(self, method: str, timeout: float = SECONDS, **fields: Any) -> Any:
        return self.end(self.begin(method, timeout, **fields))

    def keys(self, prefix: bytes) -> list[bytes]:
        found = list(self.client.all(prefix))
        self.log.append(found)
        return found

    def wait_for_keys(self, prefix: bytes, count: int) -> None:
        wait_until(lambda: len(self.client.all(prefix)) == count, f"{count} keys")

    def wait_for_watches(self, count: int) -> None:
        """A key that waits is watched by one behind it. Who gives up before that may leave its key in the queue (etcd)."""
        line = f"\netcd_debugging_mvcc_watcher_total {count}\n"
        wait_until(lambda: line in self.member.http("/metrics")[1], f"{count} watches")


def locks(stage: Stage) -> None:
    for lease in (1, 2, 0x2F, -5):
        stage.grant(lease)
    stage.call("v3lockpb.Lock/Lock", name=b"l", lease=1)
    stage.call("v3lockpb.Lock/Lock", name=b"l", lease=1)  # the same session again
    waiting = []
    for position, lease in enumerate((2, 0x2F, -5)):
        waiting.append(stage.begin("v3lockpb.Lock/Lock", name=b"l", lease=lease))
        stage.wait_for_keys(b"l/", position + 2)
    assert not any(one.done() for one in waiting)
    stage.keys(b"l/")
    stage.call("v3lockpb.Lock/Unlock", key=b"l/1")
    stage.end(waiting[0])
    stage.revoke(0x2F)  # its session ends while it waits: another waits on
    stage.call("v3lockpb.Lock/Unlock", key=b"l/2")
    stage.end(waiting[1])
    stage.end(waiting[2])
    stage.keys(b"l/")
    stage.call("v3lockpb.Lock/Unlock", key=b"l/unknown")
    stage.call("v3lockpb.Lock/Unlock", key=b"")
    stage.call("v3lockpb.Lock/Lock", name=b"", lease=1)
    stage.call("v3lockpb.Lock/Lock", name=b"l", lease=77)
    stage.keys(b"/")


def a_waiter_gives_up(stage: Stage) -> None:
    for lease in (11, 12, 13):
        stage.grant(lease)
    stage.call("v3lockpb.Lock/Lock", name=b"g", lease=11)
    stage.call("v3lockpb.Lock/Lock", timeout=3, name=b"g", lease=12)
    stage.wait_for_keys(b"g/", 1)
    stage.wait_for_watches(0)
    waiting = stage.begin("v3lockpb.Lock/Lock", name=b"g", lease=13)
    stage.wait_for_keys(b"g/", 2)
    stage.wait_for_watches(1)
    waiting.cancel()
    stage.wait_for_keys(b"g/", 1)
    stage.keys(b"g/")


def a_lock_without_a_lease(stage: Stage) -> None:
    first = stage.begin("v3lockpb.Lock/Lock", name=b"own").result()
    (kv,) = stage.client.all(b"own/").values()
    assert first.key == b"own/%x" % kv.lease
    request = rpc_pb2.LeaseTimeToLiveRequest(ID=kv.lease)
    found = stage.client.call("Lease/LeaseTimeToLive", request, rpc_pb2.LeaseTimeToLiveResponse, SECONDS)
    stage.log.append(found.grantedTTL)


def elections(stage: Stage) -> None:
    for lease in (21, 22):
        stage.grant(lease)
    stage.call("v3electionpb.Election/Leader", name=b"e")
    won = stage.call("v3electionpb.Election/Campaign", name=b"e", lease=21, value=b"first")
    stage.call("v3electionpb.Election/Leader", name=b"e")
    stage.call("v3electionpb.Election/Campaign", name=b"e", lease=21, value=b"first")
    stage.call("v3electionpb.Election/Campaign", name=b"e", lease=21, value=b"changed")
    stage.call("v3electionpb.Election/Proclaim", leader=won.leader, value=b"proclaimed")
    stage.call("v3electionpb.Election/Leader", name=b"e")
    wrong = _Key(name=b"e", key=won.leader.key, rev=won.leader.rev + 1, lease=21)
    stage.call("v3electionpb.Election/Proclaim", leader=wrong, value=b"never")
    stage.call("v3electionpb.Election/Proclaim", value=b"never")
    stage.call("v3electionpb.Election/Resign")
    stage.call("v3electionpb.Election/Resign", leader=wrong)
    second = stage.begin("v3electionpb.Election/Campaign", name=b"e", lease=22, value=b"second")
    stage.wait_for_keys(b"e/", 2)
    stage.call("v3electionpb.Election/Leader", name=b"e")
    stage.call("v3electionpb.Election/Resign", leader=won.leader)
    stage.end(second)
    stage.call("v3electionpb.Election/Leader", name=b"e")
    stage.call("v3electionpb.Election/Campaign", name=b"e", lease=99, value=b"no such lease")
    stage.call("v3electionpb.Election/Proclaim", leader=_Key(name=b"e", key=b"e/16", rev=0, lease=99), value=b"v")


def a_candidate_gives_up(stage: Stage) -> None:
    for lease in (31, 32):
        stage.grant(lease)
    stage.call("v3electionpb.Election/Campaign", name=b"c", lease=31, value=b"1")
    stage.call("v3electionpb.Election/Campaign", timeout=3, name=b"c", lease=32, value=b"2")
    stage.wait_for_keys(b"c/", 1)
    stage.keys(b"c/")


def observers(stage: Stage) -> None:
    for lease in (41, 42):
        stage.grant(lease)
    method = stage.client.channel.unary_stream(
        "/v3electionpb.Election/Observe",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=election_pb2.LeaderResponse.FromString,
    )
    stream = method(election_pb2.LeaderRequest(name=b"o"), timeout=SECONDS)
    seen: queue.Queue[bytes] = queue.Queue()

    def read() -> None:
        try:
            for answer in stream:
                assert answer.header.member_id
                seen.put(answer.kv.key + b"=" + answer.kv.value)
        except grpc.RpcError:
            pass  # cancelled at the end

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    time.sleep(0.3)  # the first leader comes while it waits for one, most of the time; before, it finds one: both are right
    won = stage.begin("v3electionpb.Election/Campaign", name=b"o", lease=41, value=b"a").result()
    told = [seen.get(timeout=SECONDS)]
    stage.begin("v3electionpb.Election/Proclaim", leader=won.leader, value=b"b").result()
    told.append(seen.get(timeout=SECONDS))
    second = stage.begin("v3electionpb.Election/Campaign", name=b"o", lease=42, value=b"c")
    stage.wait_for_keys(b"o/", 2)
    stage.revoke(41)
    told.append(seen.get(timeout=SECONDS))
    second.result()
    stage.log.append(told)
    stream.cancel()
    reader.join(SECONDS)


@pytest.fixture(
    scope="module",
    params=[list(ETCD), pytest.param(newer_etcd(), marks=pytest.mark.skipif(newer_etcd() == [""], reason=VARIABLE))],
    ids=["3.5.1", "newer"],
)
def members(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Member, Member]]:
    directory = tmp_path_factory.mktemp("locks")
    etcd = Cluster.plan(directory, ["etcd"], ["--unsafe-no-fsync"], programs={"etcd": request.param})
    tercet = Cluster.plan(directory, ["tercet"])
    try:
        theirs, ours = (cluster.members[0].start() for cluster in (etcd, tercet))
        theirs.wait_ready()
        ours.wait_ready()
        yield theirs, ours
    finally:
        etcd.dispose()
        tercet.dispose()


@pytest.mark.parametrize(
    "scene", [locks, a_waiter_gives_up, a_lock_without_a_lease, elections, a_candidate_gives_up, observers]
)
def test_both_tell_the_same(members: tuple[Member, Member], scene: Callable[[Stage], None]) -> None:
    theirs, ours = (Stage(member) for member in members)
    for stage in (theirs, ours):
        scene(stage)
    assert ours.log == theirs.log
    assert ours.log
