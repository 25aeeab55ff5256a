"""The configuration with the progress of each member, this one included, and the quorums over them.

Invariant: the keys of `peers` are the members of the configuration in ascending order; iteration is deterministic.
Source: etcd raft tracker/tracker.go.
"""

from __future__ import annotations

from collections.abc import Mapping

from tercet.raft import confchange
from tercet.raft.progress import Progress
from tercet.raft.quorum import VoteResult, joint_index, joint_vote_result
from tercet.raft.types import ConfState


class Tracker:
    """The configuration with the progress of each member."""

    __slots__ = ("_inflight_max", "conf_state", "peers")

    def __init__(self, conf_state: ConfState, *, last_index: int, inflight_max: int) -> None:
        self._inflight_max = inflight_max
        self.peers: dict[int, Progress] = {}
        self.install(conf_state, last_index=last_index)

    def install(self, conf_state: ConfState, *, last_index: int) -> None:
        """Replace the configuration; members of both keep their progress.

        A new member is probed at our last entry. It counts as active, or the next quorum check could fail before it was sent
        anything.
        """
        self.conf_state = conf_state
        known = self.peers
        self.peers = {}
        for member in confchange.members(conf_state):
            progress = known.get(member) or Progress(
                next=max(last_index, 1), inflight_max=self._inflight_max, recent_active=True
            )
            progress.is_learner = member in conf_state.learners
            self.peers[member] = progress

    def reset(self, *, last_index: int) -> None:
        """Reset all progress: a new term has begun."""
        for member, progress in self.peers.items():
            self.peers[member] = Progress(next=last_index + 1, inflight_max=self._inflight_max, is_learner=progress.is_learner)

    @property
    def voters(self) -> tuple[int, ...]:
        """The voters of both halves, by ascending id."""
        conf = self.conf_state
        return tuple(sorted({*conf.voters, *conf.voters_outgoing})) if conf.voters_outgoing else conf.voters

    def is_voter(self, member: int) -> bool:
        return member in self.conf_state.voters or member in self.conf_state.voters_outgoing

    def is_only_voter(self, member: int) -> bool:
        return self.voters == (member,)

    def committed_index(self) -> int:
        """The highest index that a quorum of voters has on disk."""
        peers, conf = self.peers, self.conf_state
        return joint_index(
            [peers[voter].match for voter in conf.voters], [peers[voter].match for voter in conf.voters_outgoing]
        )

    def reached_index(self, reached: Mapping[int, int]) -> int:
        """The highest number that a quorum of voters has reached; a voter without one is at 0."""
        conf = self.conf_state
        return joint_index(
            [reached.get(voter, 0) for voter in conf.voters], [reached.get(voter, 0) for voter in conf.voters_outgoing]
        )

    def vote_result(self, votes: Mapping[int, bool]) -> VoteResult:
        return joint_vote_result(self.conf_state.voters, self.conf_state.voters_outgoing, votes)

    def quorum_active(self, self_id: int) -> bool:
        """Has a quorum of voters, counting ourselves, been heard from since the last call?"""
        active = {member: progress.recent_active or member == self_id for member, progress in self.peers.items()}
        for progress in self.peers.values():
            progress.recent_active = False
        return self.vote_result(active) is VoteResult.WON
