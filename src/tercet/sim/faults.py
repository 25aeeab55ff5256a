"""Probabilities of faults.

Each run draws its own mixture (`Faults.draw`). With all faults on at once a cluster never gets far enough for the rarer
scenarios; a run without crashes but with many partitions, or the other way round, reaches states that the average mixture never
does (Groce et al., swarm testing, 2012).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from random import Random
from typing import Final


@dataclass(frozen=True, slots=True)
class Faults:
    """Probabilities: of a message, an fsync, ... where the comment says so, else of each tick (of each member)."""

    drop: float = 0.02  # of a message
    duplicate: float = 0.01  # of a message
    delay: float = 0.02  # of a message: by up to three seconds
    cut: float = 0.025  # some links begin to lose everything
    cut_leader: float = 0.4  # of a cut: the leader is cut off from all other members
    usurp: float = 0.016  # a leader is cut off with many requests, and returns when its successor crashes
    mend: float = 0.06  # all cut links work again
    crash: float = 0.025  # a member loses its memory and what it has not synced
    kill: float = 0.012  # a member's process ends; what it has written stays in the page cache
    restart: float = 0.12  # a crashed member restarts
    quick_restart: float = 0.3  # of a crash: the member restarts within half a second
    crash_after_vote: float = 0.1  # of a vote granted: the voter crashes, and the candidate is cut off
    pause: float = 0.012  # a member freezes, its clock and links with it
    resume: float = 0.1  # a frozen member continues
    slow_sync: float = 0.03  # of an fsync: it takes up to two seconds
    failed_sync: float = 0.002  # of an fsync: it fails, and the member stops
    failed_read: float = 0.001  # of a read of the database: it fails, and the member stops
    power_cut: float = 0.012  # the power fails at one of the next syncs
    bit_rot: float = 0.1  # of a crash: a bit of the log flips; the member must refuse to start
    rotten_record: float = 0.006  # a record of the database is damaged, while no other member has one
    crash_when_corrupt: float = 0.3  # of a damaged record that is found: the member crashes soon after
    disk_full: float = 0.004  # a member's disk fills up
    database_ahead: float = 0.3  # of a snapshot: its database is newer than its index, as with etcd's members
    torn_snapshot: float = 0.2  # of a snapshot: its database arrives incomplete
    slow_staging: float = 0.3  # of a snapshot: its database takes up to a second to stage
    crash_in_install: float = 0.3  # of a snapshot: its receiver crashes as it installs it
    slow_apply: float = 0.02  # of a turn of a long apply: it comes up to two seconds later
    ask_snapshot: float = 0.01  # a member asks the leader for a snapshot that it does not need
    unreachable: float = 0.03  # a member takes another one for unreachable
    transfer: float = 0.01  # leadership is transferred
    clock_jump: float = 0.2  # of a start: the wall clock has jumped by up to a day
    compact: float = 0.04  # old revisions are compacted
    reconfigure: float = 0.05  # a member is added, promoted or removed
    starve: float = 0.02  # a follower that asks for a snapshot gets nothing else for a while, as many requests come
    promote_ahead: float = 0.3  # leadership goes to a member whose database is ahead of its log
    split_joint: float = 0.1  # during a joint change a quorum of the incoming voters is alone
    lose_database: float = 0.03  # of a member that is down: its database is truncated or missing, while all others are sound
    rot_operand: float = 0.015  # the current value of a key is damaged, as entries are applied whose effects it decides
    forget: float = 0.01  # keys are deleted and everything is compacted; the member is killed once that is durable

    @classmethod
    def draw(cls, random: Random) -> Faults:
        """Each fault is absent, rare, usual or frequent; what ends a fault stays on. One run in ten is an election storm."""
        if random.random() < 0.1:
            return ELECTION_STORM
        usual = cls()
        ends = {"mend", "restart", "quick_restart", "resume"}
        chances = {}
        for field in fields(cls):
            chance = getattr(usual, field.name)
            factor = random.choice((0.5, 1.0, 2.0)) if field.name in ends else random.choice((0.0, 0.3, 1.0, 3.0))
            if field.name == "slow_sync" and random.random() < 0.1:
                factor = 15.0  # a slow disk
            chances[field.name] = min(0.5, chance * factor)
        return cls(**chances)


ELECTION_STORM: Final = Faults(
    **{field.name: 0.0 for field in fields(Faults)}
    | {"drop": 0.1, "cut": 0.2, "mend": 0.1, "quick_restart": 1.0, "crash_after_vote": 0.8}
)
"""Frequent elections, in which voters crash after voting."""

NONE: Final = Faults(**{field.name: 0.0 for field in fields(Faults)})
