"""Writers do not wait for anybody: members of both kinds are killed, frozen and caught up by snapshots while writes go on.

What was acknowledged is there, once, under the revision that was told, on every member (tests/cluster/writers.py).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.cluster.writers import Load
from tests.mixed.mixture import check_same, complaints, make_leader
from tests.support.client import Client
from tests.support.processes import Cluster


@contextmanager
def load_on(cluster: Cluster) -> Iterator[Load]:
    """Writers at work; at the end everything is accounted for, and forgotten."""
    with Load(cluster) as load:
        yield load
    load.check(cluster)
    check_same(cluster.members)
    for prefix in (b"unique/", b"counter/"):
        cluster["e1"].client.delete(prefix, prefix=True)


@pytest.mark.parametrize("first", ["e1", "t1"])
def test_leaders_and_followers_are_killed(cluster: Cluster, first: str) -> None:
    make_leader(cluster, cluster[first])
    with load_on(cluster) as load:
        load.wait_for(60)
        for name in (first, "t2", "e1" if first == "t1" else "t1"):
            cluster[name].kill()
            load.wait_for(80)  # more, over all writers, than the log keeps: it comes back by a snapshot, under load
            cluster[name].restart()
            load.wait_for(40)


@pytest.mark.parametrize("leader", ["e1", "t1"])
def test_a_frozen_leader_wakes_and_tells_nothing_old(cluster: Cluster, leader: str) -> None:
    """It does not know that another one leads now; a linearizable read asked of it must not be answered from its own past."""
    old = cluster[leader]
    make_leader(cluster, old)
    old.client.put(b"frozen", b"before")
    old.pause()
    new = cluster.leader(cluster.others(old))
    for number in range(150):
        new.client.put(b"frozen", b"%d" % number)
    old.resume()
    assert read_in_the_end(old.client, b"frozen") == b"149"
    check_same(cluster.members)


def read_in_the_end(client: Client, key: bytes) -> bytes | None:
    """What a member answers that may still have to learn that it leads no more: until then it refuses, as etcd itself does."""
    for _ in range(50):
        try:
            return client.get(key)
        except Client.Error as error:
            if "leader changed" not in str(error):
                raise
            time.sleep(0.1)
    raise AssertionError("it never learnt who leads")


def test_all_are_killed_at_once(cluster: Cluster) -> None:
    with load_on(cluster) as load:
        load.wait_for(50)
        for member in cluster.members:
            member.kill()
        cluster.start()
        load.wait_for(50)


def test_etcd_had_nothing_to_complain_about(cluster: Cluster) -> None:
    assert complaints(cluster["e1"]) == []
