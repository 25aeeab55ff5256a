"""Random faults: lost, repeated and reordered messages, stalled disks, crashes, configuration changes.

While faults occur, every invariant is checked after every event. After they stop, the members must agree within a bound.
"""

from __future__ import annotations

import os
from random import Random

import pytest

from tercet.raft import (
    ConfChange,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
    Message,
    MessageType,
    confchange,
)
from tests.raft.cluster import Cluster, Member

SEEDS = range(int(os.environ.get("TERCET_RAFT_SEEDS", "40")))
EVENTS = 1500
IDS_MAX = 6


class Chaos(Cluster):
    """A cluster with random events. Refused configuration changes have no effect, as in a server."""

    def __init__(self, *, seed: int = 0, **options: object) -> None:
        super().__init__(seed=seed, **options)
        self.proposed = 0
        self.requested = 0
        self.answered = 0

    def answer_read(self, member: Member, context: bytes, index: int) -> None:
        super().answer_read(member, context, index)
        self.answered += 1

    def validate(self, conf_state: ConfState, change: ConfChange | ConfChangeV2) -> ConfChange | ConfChangeV2:
        """Refuse a change from two voters to one: if the remaining voter does not learn of the commit, it needs the vote of the
        removed one, whose log may be longer. This is a limit of configuration changes that take effect when applied.
        """
        after = confchange.changed(conf_state, change)
        if len(conf_state.voters) > 1 and len(after.voters) == 1 and not confchange.leaves_joint(change):
            return ConfChange(ConfChangeType.UPDATE_NODE, 0)
        return change

    def event(self) -> None:
        """Let one random event happen."""
        chance = self.random
        roll = chance.random()
        up = self.up()
        member = chance.choice(up) if up else None
        if roll < 0.45 or member is None:
            self.transmit()
        elif roll < 0.65:
            self.tick(member.id)
        elif roll < 0.75:
            self.work_disk(member)
        elif roll < 0.85:
            self.propose_something(member)
        elif roll < 0.90:
            self.requested += 1
            self.read(member.id, b"read-%d" % self.requested)
        elif roll < 0.93:
            member.is_stalled = not member.is_stalled
            self.touch(member.id)
        elif roll < 0.945:
            member.compact(keep=chance.randrange(3))
        elif roll < 0.96:
            self.cut = set(chance.sample(range(1, IDS_MAX + 1), chance.choice((0, 0, 1, 2))))
        elif roll < 0.97:
            self.disturb(member)
        elif roll < 0.985:
            self.change(member)
        else:
            self.crash_or_start(chance.choice(list(self.members.values())))

    def transmit(self) -> None:
        """Deliver a message, mostly the oldest; some are lost, some are delivered twice."""
        if not self.network:
            return
        position = 0 if self.random.random() < 0.7 else self.random.randrange(len(self.network))
        message = self.network[position]
        fate = self.random.random()
        if fate > 0.05:
            del self.network[position]
        if fate < 0.9:
            self.deliver(message)
        else:
            self.report(message, arrived=False)

    def deliver(self, message: Message) -> None:
        receiver = self.members[message.to]
        arrived = receiver.is_up and not {message.from_, message.to} & self.cut
        super().deliver(message)
        self.report(message, arrived=arrived)

    def report(self, message: Message, *, arrived: bool) -> None:
        """The transport always reports whether a snapshot was delivered."""
        if message.type is MessageType.SNAP and self.members[message.from_].is_up:
            self[message.from_].report_snapshot(message.to, arrived)
            self.touch(message.from_)

    def work_disk(self, member: Member) -> None:
        if member.writes:
            member.finish_write()
            member.settle()

    def propose_something(self, member: Member) -> None:
        count = self.random.choice((1, 1, 2, 5))
        self.propose(member.id, *[b"%d" % (self.proposed + i) for i in range(count)])
        self.proposed += count

    def disturb(self, member: Member) -> None:
        raft = member.raft
        target = self.random.randrange(1, IDS_MAX + 1)
        self.random.choice(
            (
                raft.campaign,
                lambda: raft.transfer_leadership(target),
                lambda: raft.report_unreachable(target),
                lambda: raft.report_snapshot(target, self.random.random() < 0.5),
            )
        )()
        self.touch(member.id)

    def change(self, member: Member) -> None:
        kinds = (ConfChangeType.ADD_NODE, ConfChangeType.ADD_LEARNER_NODE, ConfChangeType.REMOVE_NODE)
        target = self.random.randrange(1, IDS_MAX + 1)
        change: ConfChange | ConfChangeV2 = ConfChange(self.random.choice(kinds), target)
        if self.random.random() < 0.3:
            changes = tuple(
                (self.random.choice(kinds), self.random.randrange(1, IDS_MAX + 1)) for _ in range(self.random.randrange(4))
            )
            change = ConfChangeV2(changes, self.random.choice(list(ConfChangeTransition)))
        self.propose_conf_change(member.id, change)

    def crash_or_start(self, member: Member) -> None:
        if member.is_up:
            if len(self.up()) > len(self.members) // 2:
                member.crash(writes_kept=self.random.randrange(len(member.writes) + 1))
        else:
            self.start(member)

    def start(self, member: Member) -> None:
        member.start()
        self.touch(member.id)

    def heal(self) -> None:
        """Stop all faults."""
        self.cut = set()
        for member in self.members.values():
            member.is_stalled = False
            if not member.is_up:
                self.start(member)
            while member.writes:
                self.work_disk(member)
            member.settle()

    def is_converged(self) -> bool:
        """All members of the leader's configuration have applied the same, and no joint change or transfer is running."""
        leader = self.leader()
        if leader is None or self.network or leader.raft.commit_index != leader.raft.log.last_index:
            return False
        conf = leader.raft.conf_state
        if (conf.voters_outgoing and conf.auto_leave) or leader.raft.leader_transferee:
            return False
        return all(
            self.members[member].applied == leader.applied and self[member].commit_index == leader.raft.commit_index
            for member in confchange.members(conf)
        )


def start(seed: int) -> Chaos:
    random = Random(seed)
    count = random.choice((1, 2, 3, 3, 4, 5))
    options = {
        "pre_vote": random.random() < 0.7,
        "check_quorum": random.random() < 0.7,
        "max_message_bytes": random.choice((1, 40, 1 << 20)),
        "max_committed_bytes": random.choice((1, 40, 1 << 20)),
        "max_inflight_messages": random.choice((1, 2, 512)),
    }
    cluster = Chaos.bootstrapped(count, seed=seed, **options)
    for member in range(count + 1, IDS_MAX + 1):
        cluster.add(member)
        cluster.touch(member)
    return cluster


@pytest.mark.parametrize("seed", SEEDS)
def test_invariants_hold_under_faults_and_members_converge_after_them(seed: int) -> None:
    cluster = start(seed)
    for _ in range(EVENTS):
        cluster.event()
    cluster.heal()
    for _ in range(400):
        for member in cluster.up():
            cluster.tick(member.id)
        cluster.run()
        if cluster.is_converged():
            break
    assert cluster.is_converged()
    leader = cluster.leader()
    assert leader is not None
    read_before = cluster.answered
    accepted = cluster.propose(leader.id, b"last")
    cluster.read(leader.id, b"last read")
    cluster.run()
    if leader.id in leader.raft.conf_state.voters:
        assert accepted
        assert leader.applied[-1] == b"last"
        assert cluster.answered > read_before
