"""What a member must give up in time, so that its clients are served (thesis §6.2, §3.10, §4.2.3).

- A leader that hears no quorum steps down.
- A transfer of leadership that does not succeed within an election timeout ends: until then it accepts no proposals.
- A member that hears no leader refuses nobody its vote for a leader's sake.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tercet.errors import require
from tercet.raft import Raft
from tercet.raft.message_types import FROM_LEADER, RESPONSES
from tercet.raft.types import NO_MEMBER, ConfState, Message
from tercet.sim.settings import ELECTION_TICKS

_TRANSFER_TICKS_MAX: Final = 2 * ELECTION_TICKS
_HEARING_TICKS_MAX: Final = 3 * ELECTION_TICKS  # a snapshot is staged before raft hears of it
_TICKS_MAX: Final = 4 * ELECTION_TICKS  # the check runs once an election timeout, and a transfer of leadership postpones it


class QuorumWatch:
    """One incarnation of one member, in its own ticks."""

    def __init__(self, raft: Raft) -> None:
        self._raft = raft
        self._ticks = 0
        self._heard: dict[int, int] = {}  # by member: the tick of its last response
        self._heard_leader = 0
        self._led: tuple[int, ConfState] = (0, raft.conf_state)  # term and configuration as leader, since the tick
        self._since = 0
        self._transfer: tuple[int, int] = (0, NO_MEMBER)  # term and target, since the tick
        self._transfer_since = 0

    def received(self, message: Message) -> None:
        if message.type in RESPONSES and message.term == self._raft.term:
            self._heard[message.from_] = self._ticks
        elif message.type in FROM_LEADER and message.term >= self._raft.term:
            self._heard_leader = self._ticks

    def ticked(self) -> None:
        """Call after each tick of the member. Raises InvariantViolation."""
        raft = self._raft
        self._ticks += 1
        if not raft.is_leader:
            quiet = self._ticks - self._heard_leader
            hears = quiet > _HEARING_TICKS_MAX and raft.hears_leader()
            require(not hears, "a member goes on to hear a leader that is gone", raft.id, raft.term, raft.leader_id, quiet)
            return
        self._check_transfer()
        conf_state = raft.conf_state
        if self._led != (raft.term, conf_state):
            self._led, self._since = (raft.term, conf_state), self._ticks
        for half in (conf_state.voters, conf_state.voters_outgoing):
            quiet = self._ticks - self._heard_quorum(half)
            require(quiet <= _TICKS_MAX, "a leader without a quorum goes on leading", raft.id, raft.term, half, quiet)

    def _check_transfer(self) -> None:
        raft = self._raft
        if self._transfer != (raft.term, raft.leader_transferee):
            self._transfer, self._transfer_since = (raft.term, raft.leader_transferee), self._ticks
        elif raft.leader_transferee != NO_MEMBER:
            waits = self._ticks - self._transfer_since
            require(
                waits <= _TRANSFER_TICKS_MAX, "a transfer of leadership does not end", raft.id, raft.leader_transferee, waits
            )

    def _heard_quorum(self, voters: Sequence[int]) -> int:
        """The last tick at which a quorum of `voters` had been heard."""
        if not voters:
            return self._ticks
        heard = sorted(self._ticks if one == self._raft.id else max(self._heard.get(one, 0), self._since) for one in voters)
        return heard[(len(heard) - 1) // 2]
