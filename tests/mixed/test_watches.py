"""Watches at members of either kind deliver the same events, while leadership moves from one kind to the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tercet.proto import rpc_pb2
from tests.mixed.mixture import check_same, make_leader
from tests.support.client import prefix_end
from tests.support.processes import Cluster, Member
from tests.support.waiting import scaled


class Watch:
    """A watch of a prefix with the previous pairs; `events(n)` waits for the next n."""

    def __init__(self, member: Member, prefix: bytes, start_revision: int = 0) -> None:
        create = rpc_pb2.WatchCreateRequest(
            key=prefix, range_end=prefix_end(prefix), start_revision=start_revision, prev_kv=True, progress_notify=True
        )
        method = member.client.channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=rpc_pb2.WatchResponse.FromString,
        )
        self._stream: Any = method(iter([rpc_pb2.WatchRequest(create_request=create)]), timeout=scaled(120))
        assert next(self._stream).created
        self._events = self._read()

    def _read(self) -> Iterator[bytes]:
        for response in self._stream:
            assert not response.canceled, response.cancel_reason
            for event in response.events:
                yield event.SerializeToString()

    def events(self, count: int) -> list[bytes]:
        return [next(self._events) for _ in range(count)]

    def close(self) -> None:
        self._stream.cancel()


def write(members: list[Member], prefix: bytes) -> int:
    """Puts, deletes and a transaction, at one member after the other. Returns the number of events."""
    for number in range(12):
        members[number % len(members)].client.put(prefix + b"%d" % (number % 5), b"%d" % number)
    members[0].client.delete(prefix + b"1")
    members[-1].client.delete(prefix + b"2")
    members[0].client.put_all({prefix + b"x": b"1", prefix + b"y": b"2"})
    return 16


@pytest.mark.parametrize("leaders", [["e1", "t1"], ["t1", "e1"]])
def test_both_kinds_deliver_the_same_events_over_a_change_of_the_leader(cluster: Cluster, leaders: list[str]) -> None:
    prefix = f"watched/{leaders[0]}/".encode()
    make_leader(cluster, cluster[leaders[0]])
    before = cluster["e1"].client.status().header.revision
    watches = [Watch(member, prefix) for member in cluster.members]
    try:
        count = write(cluster.members, prefix)
        make_leader(cluster, cluster[leaders[1]])
        count += write(cluster.members[::-1], prefix)
        watches += [Watch(member, prefix, before + 1) for member in cluster.members]  # reads history
        first, *more = [watch.events(count) for watch in watches]
        assert len(set(first)) == count
        assert all(events == first for events in more)
    finally:
        for watch in watches:
            watch.close()
    check_same(cluster.members)
