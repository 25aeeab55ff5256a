"""Members in threads of their own, alone and as a cluster."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

import tercet
from tercet.client import AsyncClient, Retry
from tercet.embed.cluster import Cluster
from tercet.embed.links import Link
from tercet.errors import StatusError
from tests.support.waiting import scaled, stretched, wait_until


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(3, config={"heartbeat_interval": 50, "election_timeout": 500}) as started:
        yield started


def put(endpoints: list[str], key: str, value: str = "1", timeout: float = 60) -> int:
    """A put that is repeated if its outcome is unknown, as after a change of the leader."""

    async def run() -> int:
        async with AsyncClient(endpoints, timeout=stretched(timeout), retry=Retry.ALWAYS) as client:
            return (await client.put(key, value, retry=tercet.Retry.ALWAYS)).header.revision

    return asyncio.run(run())


def get(endpoints: list[str], key: str) -> str | None:
    async def run() -> str | None:
        async with AsyncClient(endpoints, timeout=scaled(20)) as client:
            found = await client.get(key)
            return None if found is None else found.text()

    return asyncio.run(run())


def test_a_server_in_a_thread_serves_any_thread() -> None:
    with tercet.Server.start_in_thread() as server:
        put(server.endpoints, "a")
        server.restart()
        assert get(server.endpoints, "a") == "1"
        server.reset()
        assert get(server.endpoints, "a") is None
        assert server.failure is None
        assert any("simple token" in line for line in server.logs)


def test_a_paused_server_answers_nothing_until_it_is_resumed() -> None:
    with tercet.Server.start_in_thread() as server:
        server.pause()
        with pytest.raises(Exception, match=r".") as late:
            put(server.endpoints, "a", timeout=0.3)
        assert isinstance(late.value, tercet.TercetError | StatusError)
        server.resume()
        put(server.endpoints, "a")


def test_advanced_time_ends_a_lease() -> None:
    async def grant(endpoints: list[str]) -> None:
        async with AsyncClient(endpoints) as client:
            lease = await client.grant_lease(60)
            await client.put("leased", "1", lease=lease)

    with tercet.Server.start_in_thread() as server:
        asyncio.run(grant(server.endpoints))
        server.advance(30)
        assert get(server.endpoints, "leased") == "1"
        server.advance(31)
        wait_until(lambda: get(server.endpoints, "leased") is None, "the lease has ended")


def test_a_cluster_serves_at_every_member(cluster: Cluster) -> None:
    put(cluster.endpoints, "everywhere")
    assert [get(member.endpoints, "everywhere") for member in cluster.members] == ["1", "1", "1"]
    assert len(cluster.running) == 3


def test_the_others_go_on_without_a_killed_leader(cluster: Cluster) -> None:
    leader = cluster.leader()
    leader.kill()
    other = cluster.leader()
    assert other is not leader
    put(other.endpoints, "without", "leader")
    leader.start()
    wait_until(lambda: get(leader.endpoints, "without") == "leader", "the killed member has caught up")


def test_a_leader_that_is_cut_off_is_replaced(cluster: Cluster) -> None:
    leader = cluster.leader()
    for member in cluster.members:
        if member is not leader:
            for pair in ((leader, member), (member, leader)):
                cluster.links.set(pair[0].name, pair[1].name, Link(cut=True))
    wait_until(lambda: cluster.leader() is not leader, "another member leads")
    cluster.links.heal()
    put(leader.endpoints, "healed")


def test_reset_reaches_all_members(cluster: Cluster) -> None:
    put(cluster.endpoints, "before")
    cluster.reset()
    assert [get(member.endpoints, "before") for member in cluster.members] == [None, None, None]
    assert put(cluster.endpoints, "after") == 2
    victim = cluster.members[1]
    victim.kill()
    victim.start()
    wait_until(lambda: get(victim.endpoints, "after") == "1", "the restarted member has the state after the reset")
    assert get(victim.endpoints, "before") is None


def test_a_cluster_can_be_used_in_an_event_loop() -> None:
    async def main() -> None:
        async with Cluster(3) as started, AsyncClient(started.endpoints) as client:
            await client.put("a", "1")

    asyncio.run(main())


A_HUNDRED_CLUSTERS = """
import os, threading, time
from tercet import Cluster

def counts():
    mine = [name for name in os.listdir(os.environ.get("TMPDIR", "/tmp")) if name.startswith(f"tercet-{os.getpid()}-")]
    return threading.active_count(), len(os.listdir("/proc/self/fd")), len(mine)

with Cluster(1):
    pass  # what is loaded once, such as the random source
before = counts()
for number in range(100):
    with Cluster(3 if number % 10 == 0 else 1):
        pass
end = time.monotonic() + 60
while counts() != before and time.monotonic() < end:
    time.sleep(0.1)
print(before, counts())
"""


def test_a_hundred_clusters_leave_no_thread_descriptor_or_directory() -> None:
    """In a process of their own, in which nothing else starts or ends."""
    done = subprocess.run(
        [sys.executable, "-c", A_HUNDRED_CLUSTERS], capture_output=True, text=True, timeout=scaled(110), check=True
    )
    before, after = re.findall(r"\(.*?\)", done.stdout)
    assert after == before
