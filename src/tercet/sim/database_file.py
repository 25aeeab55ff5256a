"""The database of a member as a file: between two incarnations it may be lost, truncated or damaged.

    missing      until an operator mounts the file system, or for good if the member makes a new one from its log
    truncated    for good: the member sets it aside
    rotten       a record has a wrong checksum (bit_rot.py): the same
The member then starts as the server does (replica/damaged_database.py). It is damaged only while every other member of the
cluster has a sound database: what all members lose, no protocol can bring back.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from random import Random

from tercet.errors import CorruptRecord, DamagedDatabase, StorageFailure, require
from tercet.raft import Raft
from tercet.raft.types import ConfState, EntryType
from tercet.sim.backend import SimulatedBackend
from tercet.storage.interfaces import Bucket


def can_lead_without(member_id: int, before: ConfState, after: ConfState) -> bool:
    """Whether the others can elect a leader while `member_id` is without its database, during a change and after it.

    That member does not campaign, and where its log is the longer one it gives nobody else its vote. A member whose vote the
    change takes may have been the only one of them to learn that it is committed, and have left: then the others ask the voters
    of before. So they must be a quorum alone, in each configuration. Five voters can lose one more, three cannot.
    """
    absent = {member_id, *before.voters, *before.voters_outgoing} - (set(after.voters) - {member_id})
    halves = (before.voters, before.voters_outgoing, after.voters, after.voters_outgoing)
    return all(2 * len(set(half) - absent) > len(half) for half in halves if half)


def has_pending_change(raft: Raft) -> bool:
    """Whether the log has a change of membership that may yet leave too few members: see `can_lead_without`."""
    log = raft.log
    first = max(raft.applied_index, log.snapshot_index) + 1  # a snapshot may not be applied yet
    unapplied = log.entries(first, log.last_index + 1)
    return any(entry.type != EntryType.NORMAL for entry in unapplied)


class Damage(Enum):
    MISSING = auto()
    TRUNCATED = auto()


class SimulatedDatabaseFile:
    """See `replica.damaged_database.DatabaseFile`. make: creates an empty database."""

    database_path = "in memory"

    def __init__(self, make: Callable[[], SimulatedBackend], random: Random, trace: Callable[[str], None]) -> None:
        self.backend = make()
        self.damage: Damage | None = None
        self.is_exposed = False
        """The member crashed as it installed a database: the log may not know it yet."""
        self._make = make
        self._random = random
        self._trace = trace
        self._is_set_aside = False  # a damaged one, until the database in its place has data

    @property
    def is_sound(self) -> bool:
        """Whether another member could take its database from this one."""
        is_replaced = not self._is_set_aside or self.backend.applied_index > 0
        return self.damage is None and self.backend.rot.key is None and is_replaced

    def explains(self, failure: Exception) -> bool:
        """Whether a start may fail with `failure`, because the database was damaged."""
        if isinstance(failure, CorruptRecord | DamagedDatabase):
            return not self.is_sound
        return isinstance(failure, StorageFailure) and self.damage is Damage.MISSING

    def open(self) -> SimulatedBackend:
        """The database; a new one in place of a missing one. Raises DamagedDatabase."""
        self.is_exposed = False
        if self.damage is Damage.TRUNCATED:
            raise DamagedDatabase(f"database {self.database_path} is truncated")
        if self.damage is Damage.MISSING:
            self.backend, self.damage = self._make(), None
        return self.backend

    def rot(self, *, is_found_at_once: bool, record: bytes | None = None) -> None:
        """Damage a record, this one or any, while the member runs."""
        self._trace("has a record damaged")
        records = [key for key, _ in self.backend.scan(Bucket.KEY)] if record is None else [record]
        self.backend.rot.damage(records, is_found_at_once=is_found_at_once)

    def lose(self) -> None:
        """Damage the file while the member is down."""
        self.damage = self._random.choice((Damage.MISSING, Damage.TRUNCATED, Damage.TRUNCATED))
        self._trace(f"has its database {self.damage.name.lower()}")

    def remount(self) -> None:
        """An operator finds the database that was missing."""
        if self.damage is Damage.MISSING:
            self.damage = None

    # --- DatabaseFile

    def has_database(self) -> bool:
        return self.damage is not Damage.MISSING

    def set_aside_database(self) -> None:
        self.backend, self.damage = self._make(), None
        self._is_set_aside = True

    def discard_damaged(self) -> None:
        require(self.backend.applied_index > 0, "discards the damaged database before another one has data")
        self._is_set_aside = False
