"""What may go wrong, and how often?

A run draws its own mixture (`Faults.drawn`): with everything on at once, the cluster never gets far enough for the rarer
plots; a run without crashes but with many cuts, or the other way round, reaches states that the average never does (Groce et
al., swarm testing, 2012).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from random import Random
from typing import Final


@dataclass(frozen=True, slots=True)
class Faults:
    """Chances. Of a message or of an fsync, where it says so; else in every tick of the cluster."""

    drop: float = 0.02  # of a message
    duplicate: float = 0.01  # of a message
    delay: float = 0.02  # of a message: by up to three seconds
    cut: float = 0.01  # some links begin to lose everything
    mend: float = 0.05  # all cut links work again
    crash: float = 0.01  # a member loses its memory and what it has not synced
    restart: float = 0.08  # a crashed member comes back
    quick_restart: float = 0.3  # of a crash: the member is back within half a second
    crash_after_vote: float = 0.1  # of a vote granted: the voter crashes, and the candidate is cut off
    pause: float = 0.005  # a member freezes, its clock and links with it
    resume: float = 0.1  # a frozen member goes on where it was
    slow_sync: float = 0.02  # of an fsync: up to two seconds
    failed_sync: float = 0.001  # of an fsync: it fails, and the member with it
    database_ahead: float = 0.3  # of a database sent: its sender goes on applying before it is read, as etcd's members do
    transfer: float = 0.005  # leadership is asked to move
    compact: float = 0.02  # superseded revisions are given up
    reconfigure: float = 0.01  # somebody asks for a change of membership

    @classmethod
    def drawn(cls, random: Random) -> Faults:
        """Each fault is left out, rare, usual or frequent; what ends one always stays on. Or it is an election storm."""
        if random.random() < 0.1:
            return ELECTION_STORM
        usual = cls()
        ends = {"mend", "restart", "quick_restart", "resume"}
        chances = {}
        for field in fields(cls):
            chance = getattr(usual, field.name)
            factor = random.choice((0.5, 1.0, 2.0)) if field.name in ends else random.choice((0.0, 0.3, 1.0, 3.0))
            chances[field.name] = min(0.5, chance * factor)
        return cls(**chances)


ELECTION_STORM: Final = Faults(
    **{field.name: 0.0 for field in fields(Faults)}
    | {"drop": 0.1, "cut": 0.2, "mend": 0.1, "quick_restart": 1.0, "crash_after_vote": 0.8}
)
"""Leaders come and go, and those who voted for them forget what they may."""

NONE: Final = Faults(**{field.name: 0.0 for field in fields(Faults)})
