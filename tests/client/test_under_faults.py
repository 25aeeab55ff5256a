"""Watches, leases and locks while members of a cluster are killed, frozen and restored. Of tercet and of the real etcd."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

import tercet
from tercet import AsyncClient
from tercet.client import ClusterChannel, Limits, WatchStream
from tercet.client.recipes.repeating import until_known
from tercet.proto import rpc_pb2
from tests.client.lock_history import LockHistory
from tests.client.test_lease import renewed
from tests.client.typed import run
from tests.support.etcd import binary, run_tool, running_etcd
from tests.support.newer import VARIABLE, newer_etcd
from tests.support.processes import QUICK, TERCET, Cluster, Member, wait_until
from tests.support.waiting import scaled, stretched

pytestmark = pytest.mark.server_process
TTL = int(stretched(4))


@pytest.fixture(scope="module", params=["tercet", "etcd"])
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three members; a test leaves all of them running."""
    newer = newer_etcd()
    program = TERCET if request.param == "tercet" else newer if newer[0] else (binary("etcd"),)
    names = ("n1", "n2", "n3")
    flags = QUICK if request.param == "tercet" else (*QUICK, "--unsafe-no-fsync", "--log-level=warn")
    planned = Cluster.plan(
        tmp_path_factory.mktemp(request.param), names, flags, programs=dict.fromkeys(names, program), token=f"{VARIABLE}"
    )
    try:
        yield planned.start()
    finally:
        planned.dispose()


def endpoints(*members: Member) -> list[str]:
    return [member.endpoint for member in members]


def test_a_watch_survives_the_death_of_its_member_and_leader(cluster: Cluster) -> None:
    victim = cluster.leader()
    others = cluster.others(victim)
    prefix = "death/"

    async def test() -> None:
        async with (
            AsyncClient(endpoints(victim, *others), namespace=prefix) as client,
            AsyncClient(endpoints(*others), namespace=prefix, timeout=scaled(30)) as writer,
            client.watch("", prefix=True) as watch,
        ):
            await writer.put("0", "")
            assert [event.key for event in await anext(watch)] == [b"0"]
            victim.kill()
            seen = []
            for number in range(1, 6):
                await until_known(partial(writer.put_if_absent, f"{number}", ""))
                seen += [event.key for event in await anext(watch)]
            assert seen == [b"%d" % number for number in range(1, 6)]
            assert watch.resumes >= 1

    try:
        run(test())
    finally:
        victim.restart()


def test_a_watch_and_a_lease_leave_a_frozen_member(cluster: Cluster) -> None:
    """Its connection stays open. A PING without an answer ends the watch's stream; the lease does not wait for that."""
    frozen = cluster.others(cluster.leader())[0]
    others = cluster.others(frozen)
    limits = Limits(keepalive_timeout_seconds=1)
    object.__setattr__(limits, "keepalive_seconds", 5.0)  # the shortest that etcd accepts; a client's own minimum is 10 s

    async def watch(channel: ClusterChannel, writer: AsyncClient) -> None:
        async with WatchStream(channel) as stream:
            watching = await stream.watch(rpc_pb2.WatchCreateRequest(key=b"frozen"))
            await watching.created()
            frozen.pause()
            await writer.put("frozen", "1")
            response = await anext(watching)
            assert [event.kv.value for event in response.events] == [b"1"]

    async def test() -> None:
        async with (
            ClusterChannel(endpoints(frozen, *others), limits=limits) as channel,
            AsyncClient(endpoints(*others)) as writer,
            AsyncClient(endpoints(frozen, *others)) as client,
            client.lease(int(stretched(9))) as lease,
        ):
            await asyncio.gather(watch(channel, writer), renewed(lease))

    try:
        run(test())
    finally:
        frozen.resume()


def test_a_lock_has_one_holder_at_a_time_while_members_die(cluster: Cluster) -> None:
    async def nemesis(history: LockHistory) -> None:
        """Kill the leader once some work has been done."""
        while len(history.holdings) < 4:
            await asyncio.sleep(0.02)
        victim = await asyncio.to_thread(cluster.leader)
        await asyncio.to_thread(victim.kill)
        await asyncio.to_thread(victim.restart)

    async def test() -> None:
        history = LockHistory(clock=time.monotonic, ttl_seconds=TTL)

        async def work(number: int) -> None:
            shuffled = random.Random(number).sample(endpoints(*cluster.members), 3)
            async with AsyncClient(shuffled, namespace="history/") as client:
                while history.count(number) < 4:
                    await history.hold(client, number)

        await asyncio.gather(nemesis(history), *(work(number) for number in range(4)))
        assert len(history.holdings) >= 16
        history.check_exclusion()
        async with AsyncClient(endpoints(*cluster.members), namespace="history/") as client:
            await history.check_log(client)

    run(test(), 110)


def test_a_restored_cluster_ends_a_watch_instead_of_resuming_it(tmp_path: Path) -> None:
    """Same cluster ID, lower revision: a watch that waits for the next revision would miss what is written until then."""
    with running_etcd(tmp_path) as etcd:

        async def test() -> None:
            async with AsyncClient(etcd.endpoint, timeout=scaled(30)) as client, client.watch("", prefix=True) as watch:
                await client.put("a", "1")
                await asyncio.to_thread(etcd.ctl, "snapshot", "save", tmp_path / "snapshot.db")
                for number in range(3):
                    await client.put("a", f"lost {number}")
                for _ in range(4):
                    await anext(watch)
                await asyncio.to_thread(restore)
                with pytest.raises(tercet.Rewound):
                    await anext(watch)
                kv = await client.get("a")
                assert kv is not None
                assert kv.value == b"1"

        def restore() -> None:
            etcd.member.kill()
            data = tmp_path / "restored"
            flags = [flag for flag in etcd.member.flags if flag.startswith(("--name", "--initial-"))]
            run_tool("etcdutl", "snapshot", "restore", tmp_path / "snapshot.db", f"--data-dir={data}", *flags)
            etcd.member.flags = [f"--data-dir={data}" if "--data-dir" in flag else flag for flag in etcd.member.flags]
            etcd.member.start()
            wait_until(lambda: "ready to serve client requests" in etcd.member.said(), "etcd serves", seconds=20)

        run(test())
