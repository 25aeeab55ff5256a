"""Each fault: a client notices it, and after it is taken back the cluster works as before."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest

import tercet
from tercet.client import AsyncClient, WatchStream, methods
from tercet.embed.threaded import ThreadedServer
from tercet.errors import StatusError, StorageFailure
from tercet.proto import rpc_pb2
from tercet.testing import Cluster
from tests.support.waiting import stretched, wait_until

Result = TypeVar("Result")
Work = Callable[[AsyncClient], Coroutine[Any, Any, Result]]
FAILED = (tercet.TercetError, StatusError)
QUICK = {"heartbeat_interval": 50, "election_timeout": 500}


@pytest.fixture(scope="module")
def three() -> Iterator[Cluster]:
    with Cluster(3, config=QUICK, seed=1) as started:
        yield started


@pytest.fixture(scope="module")
def single() -> Iterator[Cluster]:
    with Cluster(1) as started:
        yield started


@pytest.fixture(autouse=True)
def _whole_again(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test takes its own faults back; this checks it."""
    yield
    for name in {"three", "single"} & set(request.fixturenames):
        cluster: Cluster = request.getfixturevalue(name)
        assert not {pair: link for pair, link in cluster.links.faults.items() if link.cut}
        assert len(cluster.running) == len(cluster.members)
        put(cluster.endpoints, "afterwards")


def do(endpoints: list[str], work: Work[Result], timeout: float = 60, **options: Any) -> Result:
    async def run() -> Result:
        async with AsyncClient(endpoints, timeout=stretched(timeout), **options) as client:
            return await work(client)

    return asyncio.run(run())


def put(endpoints: list[str], key: str, value: str = "1", timeout: float = 60, **options: Any) -> int:
    """Repeated where its answer is lost, as by an election, unless `retry` says otherwise."""
    options = {"retry": tercet.Retry.ALWAYS, **options}
    return do(endpoints, lambda client: client.put(key, value, **options), timeout).header.revision


def value(endpoints: list[str], key: str) -> str | None:
    found = do(endpoints, lambda client: client.get(key))
    return None if found is None else found.text()


def cannot_write(endpoints: list[str]) -> None:
    with pytest.raises(FAILED):
        put(endpoints, "refused", timeout=0.4)


# --- members


def test_a_killed_leader_answers_nobody_until_it_starts_again(three: Cluster) -> None:
    leader = three.leader()
    with leader.kill():
        cannot_write(leader.endpoints)
        put(three.endpoints, "meanwhile")
    wait_until(lambda: value(leader.endpoints, "meanwhile") == "1", "the leader before has caught up")


def test_a_paused_member_answers_nobody_until_it_goes_on(three: Cluster) -> None:
    member = three.followers()[0]
    with member.pause():
        assert member not in three.running
        cannot_write(member.endpoints)
        put([other.endpoint for other in three.running], "meanwhile")
    wait_until(lambda: value(member.endpoints, "meanwhile") == "1", "the member has caught up")


def test_disconnected_clients_connect_again(single: Cluster) -> None:
    async def watch(client: AsyncClient) -> list[bytes]:
        async with WatchStream(client.channel) as stream:
            watch = await stream.watch(rpc_pb2.WatchCreateRequest(key=b"watched"))
            before = single.members[0].metrics()
            await asyncio.to_thread(single.disconnect_clients)
            await client.put("watched", "1")
            response = await anext(watch)
            after = single.members[0].metrics()
            assert streams(after) > streams(before), "the watch was resumed on a stream of its own"
            return [event.kv.value for event in response.events]

    assert do(single.endpoints, watch) == [b"1"]


def streams(metrics: str) -> float:
    line = 'grpc_server_started_total{grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"}'
    return float(next(text for text in metrics.splitlines() if text.startswith(line)).rpartition(" ")[2])


# --- the network between members


def test_a_leader_cut_off_from_the_others_cannot_write(three: Cluster) -> None:
    leader = three.leader()
    with three.isolate(leader):
        wait_until(lambda: three.leader() is not leader, "the others elect one of them")
        cannot_write(leader.endpoints)
        put(three.leader().endpoints, "elsewhere")
    wait_until(lambda: value(leader.endpoints, "elsewhere") == "1", "the leader before has caught up")


def test_a_one_way_partition_cuts_one_direction(three: Cluster) -> None:
    """A leader that hears its followers, but does not reach them, is deposed by them."""
    leader = three.leader()
    with three.partition(leader, three.followers(), oneway=True):
        other = three.followers()[0]
        assert three.links.get(leader.name, other.name).cut
        assert not three.links.get(other.name, leader.name).cut
        wait_until(lambda: three.leader() is not leader, "the followers elect one of them")


def test_delayed_messages_make_a_write_as_slow(single: Cluster, three: Cluster) -> None:
    leader, followers = three.leader(), three.followers()
    with three.delay(leader, followers, 0.15, oneway=True):
        began = time.monotonic()
        put(leader.endpoints, "slow")
        assert time.monotonic() - began > 0.14
    assert value(leader.endpoints, "slow") == "1"


def test_dropped_messages_are_sent_again(three: Cluster) -> None:
    leader = three.leader()
    with three.drop(leader, three.followers(), 1.0, oneway=True):
        cannot_write(leader.endpoints)
    leader = three.leader()
    with three.drop(leader, three.followers(), 0.2):
        for number in range(10):
            put(leader.endpoints, f"{number}")  # a follower would forward it, which raft does only once


# --- calls


def test_an_answer_lost_after_the_commit_leaves_the_write(single: Cluster) -> None:
    revision = put(single.endpoints, "lost", "before")
    single.fail_next("Put", after_commit=True)
    with pytest.raises(FAILED) as failed:
        put(single.endpoints, "lost", "after", retry=tercet.Retry.OFF)
    assert "error reading from server: EOF" in str(failed.value)
    assert value(single.endpoints, "lost") == "after"
    assert put(single.endpoints, "next") == revision + 2


def test_a_call_that_fails_before_the_commit_writes_nothing(single: Cluster) -> None:
    put(single.endpoints, "refused", "before")
    single.fail_next("/etcdserverpb.KV/Put", code="RESOURCE_EXHAUSTED", text="etcdserver: too many requests", times=2)
    for _ in range(2):
        with pytest.raises(FAILED, match="too many requests"):
            put(single.endpoints, "refused", "after", retry=tercet.Retry.OFF)
    assert value(single.endpoints, "refused") == "before"
    put(single.endpoints, "refused", "after")


def test_a_call_fault_can_be_taken_back_before_it_happens(single: Cluster) -> None:
    with single.fail_next("Put", times=100):
        cannot_write(single.endpoints)
    put(single.endpoints, "works")


# --- time


def test_an_hour_ends_a_lease_at_once(three: Cluster) -> None:
    async def write(client: AsyncClient) -> int:
        lease = await client.grant_lease(60)
        await client.put("leased", "1", lease=lease)
        return lease.id

    lease_id = do(three.endpoints, write)
    three.advance(30)
    assert value(three.endpoints, "leased") == "1"
    three.advance(3600)
    assert value(three.endpoints, "leased") is None
    with pytest.raises(LookupError):
        three.expire_lease(lease_id)


def test_one_lease_can_be_expired(single: Cluster) -> None:
    async def write(client: AsyncClient) -> list[int]:
        leases = [await client.grant_lease(600) for _ in range(2)]
        for number, lease in enumerate(leases):
            await client.put(f"lease{number}", "1", lease=lease)
        return [lease.id for lease in leases]

    first, _ = do(single.endpoints, write)
    single.expire_lease(first)
    assert value(single.endpoints, "lease0") is None
    assert value(single.endpoints, "lease1") == "1"


def test_expired_tokens_are_refused_and_renewed(single: Cluster) -> None:
    async def scenario(root: AsyncClient) -> None:
        await root.auth.add_user("root", "secret")
        await root.auth.grant_role("root", "root")
        await root.auth.enable()
        async with AsyncClient(single.endpoints, user="root", password="secret") as client:
            await client.put("authenticated", "1")
            login = rpc_pb2.AuthenticateRequest(name="root", password="secret")
            token = (await client.channel.call(methods.AUTHENTICATE, login)).token
            await asyncio.to_thread(single.expire_tokens)
            async with AsyncClient(single.endpoints, token=token) as stale:
                with pytest.raises(FAILED, match="invalid auth token"):
                    await stale.put("authenticated", "2")
            await client.put("authenticated", "3")
            await client.auth.disable()

    do(single.endpoints, scenario)


# --- the store, the disk and the quorum


def test_compacted_history_is_refused(single: Cluster) -> None:
    old = put(single.endpoints, "history", "old")
    put(single.endpoints, "history", "new")
    assert single.compact_all() == old + 1
    with pytest.raises(FAILED, match="compacted"):
        do(single.endpoints, lambda client: client.get("history", revision=old))
    assert value(single.endpoints, "history") == "new"


def test_without_space_writes_are_refused(three: Cluster) -> None:
    with three.no_space(), pytest.raises(FAILED, match="space exceeded"):
        put(three.endpoints, "refused")
    put(three.endpoints, "accepted")


def test_leadership_moves_to_the_named_member(three: Cluster) -> None:
    target = three.followers()[1]
    assert three.move_leader(target) is target
    assert three.leader() is target


@pytest.mark.parametrize("how", ["kill", "pause"])
def test_without_a_quorum_nothing_is_written(three: Cluster, how: Any) -> None:
    with three.lose_quorum(how):
        (left,) = three.running
        cannot_write(left.endpoints)
    put(left.endpoints, "again")


def test_a_slow_disk_makes_a_write_as_slow(single: Cluster) -> None:
    member = single.members[0]
    with member.slow_fsync(0.15):
        began = time.monotonic()
        put(single.endpoints, "slow")
        assert time.monotonic() - began > 0.14
    assert member.server.storage is not None
    assert member.server.storage.sync_seconds == 0.0


def test_a_member_with_a_full_disk_stops(three: Cluster) -> None:
    member = three.followers()[0]
    with member.fill_disk():
        put(three.leader().endpoints, "onto a full disk")
        wait_until(lambda: not member.is_running, "the member has stopped")
        assert "no space left on device" in str(member.failure)
    wait_until(lambda: value(member.endpoints, "onto a full disk") == "1", "the member has caught up")


def test_a_member_that_refuses_clients_stays_in_the_cluster(three: Cluster) -> None:
    leader = three.leader()
    with leader.refuse_clients():
        with pytest.raises(OSError, match="refused"), socket.create_connection(address(leader.endpoint)):
            pass
        assert put(three.endpoints, "by another endpoint")
        assert three.leader() is leader
    assert put(leader.endpoints, "accepted again")


def test_a_start_ends_the_refusal_of_clients(single: Cluster) -> None:
    member = single.members[0]
    with member.refuse_clients():
        member.restart()
        put(single.endpoints, "accepted")
    put(single.endpoints, "accepted")


def test_a_damaged_log_stops_the_next_start_until_it_is_repaired(three: Cluster) -> None:
    member = three.followers()[0]
    with member.corrupt_wal():
        put(three.endpoints, "the damage is not noticed yet")
        with pytest.raises(StorageFailure, match=r"write-ahead log .*wrong crc"):
            member.restart()
        put(three.leader().endpoints, "meanwhile")
    wait_until(lambda: value(member.endpoints, "meanwhile") == "1", "the member has caught up")


def address(endpoint: str) -> tuple[str, int]:
    host, _, port = endpoint.rpartition("//")[2].rpartition(":")
    return host, int(port)


def test_heal_takes_back_everything(three: Cluster) -> None:
    three.isolate(three.leader())
    three.followers()[0].pause()
    three.members[2].resume()
    three.members[2].kill()
    three.fail_next("Put", times=1000)
    three.heal()
    put(three.endpoints, "healed")


def test_heal_lets_all_members_accept_clients(three: Cluster) -> None:
    for member in three.members:
        member.refuse_clients()
    three.heal()
    for member in three.members:
        put(member.endpoints, "accepted")


def test_storage_faults_need_storage_in_memory(tmp_path: Any) -> None:
    with tercet.Server.start_in_thread(data_dir=tmp_path / "data") as server:
        assert isinstance(server, ThreadedServer)
        with pytest.raises(Exception, match="needs storage='memory'"):
            server.slow_fsync(1)
