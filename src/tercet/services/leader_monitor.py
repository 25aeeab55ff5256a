"""Ends the streams of clients that want to know when their member has lost its leader (metadata `hasleader: true`).

A short loss is an election, and opening many streams again would cost more than waiting for its end: streams end once there has
been no leader for LOST_ELECTIONS election timeouts.
Source: etcd server/etcdserver/api/v3rpc/interceptor.go, monitorLeader. Departs in: a timer that starts with the loss, no poll.
"""

from __future__ import annotations

import asyncio
from typing import Final

from tercet import errors
from tercet.replica.replica import Replica
from tercet.rpc import ServerStream

LOST_ELECTIONS: Final = 3  # etcd: maxNoLeaderCnt
_ENDED_PER_TURN: Final = 50  # 20 us each


class LeaderMonitor:
    """One for each member."""

    __slots__ = ("_loop", "_seconds", "_streams", "_timer")

    def __init__(self, replica: Replica, *, election_seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._seconds = LOST_ELECTIONS * election_seconds
        self._streams: set[ServerStream] = set()
        self._timer: asyncio.TimerHandle | None = None
        replica.leader_listeners.append(self._leader_changed)

    def add(self, stream: ServerStream) -> None:
        """End the stream when the leader is lost."""
        self._streams.add(stream)

    def discard(self, stream: ServerStream) -> None:
        self._streams.discard(stream)

    def _leader_changed(self, leader_id: int) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        if not leader_id:
            self._timer = self._loop.call_later(self._seconds, self._end_streams)

    def _end_streams(self) -> None:
        self._timer = None
        streams, self._streams = self._streams, set()
        self._end_some(list(streams))

    def _end_some(self, streams: list[ServerStream]) -> None:
        """End some of those that had no leader, and the rest in later turns: there may be 100,000."""
        for stream in streams[-_ENDED_PER_TURN:]:
            stream.fail(errors.NO_LEADER.code, errors.NO_LEADER.message)
            stream.cancel_handler()
        del streams[-_ENDED_PER_TURN:]
        if streams:
            self._loop.call_soon(self._end_some, streams)
