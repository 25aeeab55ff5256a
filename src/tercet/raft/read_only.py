"""May a read see what was committed when it came, or has another leader committed more since?

A leader that has lost its office does not know it yet. So it notes the commit index with each read, asks everyone "am I still
your leader?" in a heartbeat, and answers only when a quorum has said yes (paper §8, thesis §6.4). All reads of a turn share one
round:
    read a, read b at commit 7   ->  heartbeats of round 1   ->  2 echoes round 1   ->  a and b may read at 7

The round's number is the heartbeat's context, 8 bytes little-endian, as etcd 3.7 does it; followers of any version echo it
unchanged. It is not the context of the request (as in etcd up to 3.6): that one may come a second time, when the network
repeats a forwarded read, and a late echo of its first round would then confirm reads that came after it (scar D16,
tests/scripts/raft/read_context_repeated).

Invariant: a request joins a round only before its heartbeats leave. An echo of a round confirms every earlier one.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

_CONTEXT_BYTES: Final = 8
_REQUESTS_MAX: Final = 1 << 16  # a leader without a quorum steps down long before; this bounds what a stranger can make us keep


@dataclass(slots=True)
class ReadRequest:
    round: int
    member: int
    context: bytes
    index: int


class ReadOnly:
    """The reads that wait for their round, oldest first."""

    __slots__ = ("_requests", "_round_open", "_round_sent", "acknowledged")

    def __init__(self) -> None:
        self._requests: deque[ReadRequest] = deque()
        self._round_open = 1
        self._round_sent = 0
        self.acknowledged: dict[int, int] = {}  # member -> the newest round it has echoed

    def __len__(self) -> int:
        return len(self._requests)

    def add(self, member: int, context: bytes, index: int) -> bool:
        """Let a read of `member` at commit `index` wait for the next round. False: too many wait already."""
        if len(self._requests) >= _REQUESTS_MAX:
            return False
        self._requests.append(ReadRequest(self._round_open, member, context, index))
        return True

    def heartbeat_context(self, self_id: int) -> bytes:
        """The context for heartbeats that leave now: the newest round that somebody waits for, or empty.

        It closes the round: what comes later needs an echo of something sent later.
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
        """A heartbeat's echo. False where it tells nothing new, or could not have come from us."""
        if len(context) != _CONTEXT_BYTES:
            return False
        echoed = int.from_bytes(context, "little")
        if not self.acknowledged.get(member, 0) < echoed <= self._round_sent:
            return False
        self.acknowledged[member] = echoed
        return True

    def take_confirmed(self, through: int) -> list[ReadRequest]:
        """The reads of all rounds through this one; they wait no longer."""
        confirmed: list[ReadRequest] = []
        while self._requests and self._requests[0].round <= through:
            confirmed.append(self._requests.popleft())
        return confirmed
