"""Watches of a cluster: at a follower, over the loss of a leader, of a frozen member, without a leader."""

from __future__ import annotations

from typing import Any

from tercet.proto import rpc_pb2
from tests.cluster.conftest import Planned
from tests.support.processes import QUICK, wait_until
from tests.support.watching import Create, Stream

HAS_LEADER = (("hasleader", "true"),)


def revisions(stream: Stream, count: int) -> list[int]:
    """The revisions of the next `count` events."""
    found: list[int] = []
    while len(found) < count:
        response: Any = stream.next(60)
        assert isinstance(response, rpc_pb2.WatchResponse), response
        found += [event.kv.mod_revision for event in response.events]
    return found


def test_a_watch_at_a_follower_goes_on_over_the_loss_of_the_leader(plan: Planned) -> None:
    cluster = plan(flags=QUICK).start()
    leader = cluster.leader()
    follower, other = cluster.others(leader)
    stream = Stream(follower.client, HAS_LEADER)
    stream.create(Create(key=b"k"))
    assert stream.next().created
    first = follower.client.put(b"k", b"1").header.revision
    leader.kill()
    wait_until(lambda: follower.client.put(b"k", b"2", timeout=5).header.revision, "a new leader accepts a put")
    last = other.client.put(b"k", b"3").header.revision
    assert revisions(stream, last - first + 1) == list(range(first, last + 1))
    other.kill()
    assert stream.next(60) == (14, "etcdserver: no leader")
    stream.close()


def test_a_watch_at_a_member_that_was_frozen_catches_up(plan: Planned) -> None:
    cluster = plan(flags=QUICK).start()
    leader = cluster.leader()
    frozen = cluster.others(leader)[0]
    stream = Stream(frozen.client)
    stream.create(Create(key=b"k", prev_kv=True))
    assert stream.next().created
    first = leader.client.put(b"k", b"0").header.revision
    assert revisions(stream, 1) == [first]
    frozen.pause()
    try:
        for number in range(300):
            last = leader.client.put(b"k", b"%d" % number).header.revision
    finally:
        frozen.resume()
    assert revisions(stream, last - first) == list(range(first + 1, last + 1))
    stream.close()
