"""Joint changes of configuration (thesis §4.3), for runs that have them.

No member of etcd proposes a joint change, and a replica refuses one. Raft supports them, so the simulator proposes them and
gives the state machine what applies them: raft's configuration is stored, and the membership follows it.
"""

from __future__ import annotations

from random import Random

from tercet.raft import ConfChangeRefused, Raft, confchange
from tercet.raft.types import ConfChange, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState
from tercet.replica.host import ReplicaHost
from tercet.replica.membership import change_context
from tercet.replica.state_machine import StateMachine
from tercet.sim.recovery import initial_member


class JointChanges:
    """Applies joint changes on one member. See `StateMachine.apply_joint_change`."""

    def __init__(self, raft: Raft, state_machine: StateMachine, host: ReplicaHost) -> None:
        self._raft = raft
        self._state_machine = state_machine
        self._host = host

    def apply(self, change: ConfChangeV2, is_in_database: bool) -> None:
        """is_in_database: a received database holds the effect already; only raft has to follow."""
        try:
            conf_state = self._raft.apply_conf_change(change)
        except ConfChangeRefused:
            return
        if not is_in_database:
            self._state_machine.save_conf_state(conf_state)
            self._follow(conf_state)

    def _follow(self, conf_state: ConfState) -> None:
        """Make the membership that of the configuration; learners that still vote are learners once they do not."""
        membership = self._state_machine.membership
        for member_id in sorted(set(membership.members) - set(confchange.members(conf_state))):
            membership.apply(ConfChange(ConfChangeType.REMOVE_NODE, member_id))
            self._host.member_removed(member_id)
        for member_id in confchange.members(conf_state):
            is_learner = member_id in conf_state.learners
            known = membership.members.get(member_id)
            if known is None or known.is_learner != is_learner:
                if known is not None:
                    del membership.members[member_id]
                kind = ConfChangeType.ADD_LEARNER_NODE if is_learner else ConfChangeType.ADD_NODE
                membership.apply(ConfChange(kind, member_id, context=change_context(initial_member(member_id))))
                self._host.member_changed(membership.members[member_id])


def draw_joint_change(random: Random, new_ids: list[int], conf_state: ConfState, is_leader: bool) -> ConfChangeV2 | None:
    """A change that makes sense in `conf_state`, or None. At least two voters stay: from two to one, the removed voter may be
    the only one that knows that the change is committed.

    Only a leader changes members between voters and learners: its configuration is that of its log, and by another's a member
    could be added that has been removed meanwhile, which raft permits and etcd's membership does not.
    """
    if conf_state.voters_outgoing:
        return None if conf_state.auto_leave else ConfChangeV2()
    voters = list(conf_state.voters)
    learners = list(conf_state.learners) if is_leader else []
    changes: list[tuple[ConfChangeType, int]] = []
    for _ in range(random.randint(1, 3)):
        kind = random.choice(list(_KINDS) if is_leader else [ConfChangeType.ADD_NODE, ConfChangeType.REMOVE_NODE])
        if kind is ConfChangeType.ADD_NODE and new_ids:
            changes.append((kind, random.choice([*learners, new_ids.pop()])))
        elif kind is not ConfChangeType.ADD_NODE and len(voters) > 2:
            changes.append((kind, voters.pop(random.randrange(len(voters)))))
    return ConfChangeV2(tuple(changes), random.choice(list(ConfChangeTransition))) if changes else None


_KINDS = (ConfChangeType.ADD_NODE, ConfChangeType.ADD_LEARNER_NODE, ConfChangeType.REMOVE_NODE)
