"""The reads of a leader that wait for a quorum to confirm its leadership.

A deposed leader may not know yet that a new one has committed more. It therefore records the commit index with each read, sends
heartbeats, and answers once a quorum has responded (paper §8, thesis §6.4). All reads of a turn share one round:
    read a, read b at commit 7   ->  heartbeats of round 1   ->  2 echoes round 1   ->  a and b may read at 7

The context of a heartbeat is the number of its round, 8 bytes little-endian, as in etcd 3.7; followers of all versions echo it.
It is not the context of the request (as in etcd up to 3.6): the network may deliver a forwarded read twice, and a late echo of
its first round would then confirm reads that arrived after it (known bug D16; tests/scripts/raft/read_context_repeated).

Invariant: a read joins a round only before its heartbeats are sent. An echo of a round confirms all earlier rounds.
"""

from __future__ import annotations

from collections import deque
from typing import Final

_CONTEXT_BYTES: Final = 8
_REQUESTS_MAX: Final = 1 << 16  # bounds the memory; a leader without a quorum steps down long before


class ReadRequest:
    __slots__ = ("context", "index", "member", "round")

    def __init__(self, round: int, member: int, context: bytes, index: int) -> None:
        self.round = round
        self.member = member
        self.context = context
        self.index = index


class ReadOnly:
    """The waiting reads, oldest first."""

    __slots__ = ("_requests", "_round_open", "_round_sent", "acknowledged")

    def __init__(self) -> None:
        self._requests: deque[ReadRequest] = deque()
        self._round_open = 1
        self._round_sent = 0
        self.acknowledged: dict[int, int] = {}  # member -> the newest round it has echoed

    def __len__(self) -> int:
        return len(self._requests)

    def add(self, member: int, context: bytes, index: int) -> bool:
        """Add a read of `member` at commit `index` to the next round. False: too many are waiting."""
        if len(self._requests) >= _REQUESTS_MAX:
            return False
        self._requests.append(ReadRequest(self._round_open, member, context, index))
        return True

    def heartbeat_context(self, self_id: int) -> bytes:
        """The context of heartbeats sent now: the newest round that a read waits for, or empty.

        Closes the round: later reads need an echo of a later heartbeat.
        """
        if not self._requests:
            return b""
        newest = self._requests[-1].round
        if newest == self._round_open:
            self._round_sent = newest
            self._round_open += 1
            self.acknowledged[self_id] = newest
        return newest.to_bytes(_CONTEXT_BYTES, "little")

    def acknowledge(self, member: int, context: bytes) -> bool:
        """`member` has echoed `context`. False if that confirms nothing new, or was never sent."""
        if len(context) != _CONTEXT_BYTES:
            return False
        echoed = int.from_bytes(context, "little")
        if not self.acknowledged.get(member, 0) < echoed <= self._round_sent:
            return False
        self.acknowledged[member] = echoed
        return True

    def take_confirmed(self, through: int) -> list[ReadRequest]:
        """Remove and return the reads of all rounds up to `through`."""
        confirmed: list[ReadRequest] = []
        while self._requests and self._requests[0].round <= through:
            confirmed.append(self._requests.popleft())
        return confirmed
