"""Members of both kinds are killed, paused and restored by snapshots under continuous writes.

Every acknowledged write is applied once, at the revision of its response, on every member (tests/cluster/writers.py).
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
    """Run writers; at the end check every write and delete the keys."""
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
            load.wait_for(80)  # more entries than the log keeps: it needs a snapshot
            cluster[name].restart()
            load.wait_for(40)


@pytest.mark.parametrize("leader", ["e1", "t1"])
def test_a_resumed_leader_serves_no_stale_read(cluster: Cluster, leader: str) -> None:
    """The resumed leader does not know of its successor yet; a linearizable read from it must not return old data."""
    old = cluster[leader]
    make_leader(cluster, old)
    old.client.put(b"frozen", b"before")
    old.pause()
    new = cluster.leader(cluster.others(old))
    for number in range(150):
        new.client.put(b"frozen", b"%d" % number)
    old.resume()
    assert read_when_possible(old.client, b"frozen") == b"149"
    check_same(cluster.members)


def read_when_possible(client: Client, key: bytes) -> bytes | None:
    """Read from a deposed leader; until it learns of its successor, the read fails with "leader changed", as in etcd."""
    for _ in range(50):
        try:
            return client.get(key)
        except Client.Error as error:
            if "leader changed" not in str(error):
                raise
            time.sleep(0.1)
    raise AssertionError("it did not learn of the new leader")


def test_all_are_killed_at_once(cluster: Cluster) -> None:
    with load_on(cluster) as load:
        load.wait_for(50)
        for name in ("t1", "t2"):
            cluster[name].kill()
        cluster["e1"].stop()  # see `mixture.kill`: killed under load, etcd 3.5.1 may lose an entry
        cluster.start()
        load.wait_for(50)


def test_etcd_logged_no_error(cluster: Cluster) -> None:
    assert complaints(cluster["e1"]) == []
