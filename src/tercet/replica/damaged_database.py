"""What a member starts with if its database is missing or does not load, though its write-ahead log is sound.

    missing     made again from the log, if that reaches back to its first entry; else the member does not start: perhaps the
                file system is not mounted
    damaged     the same, if the cluster has other members: these show that what the log makes is what the database was. Else
                the member needs the cluster's members from another one, and starts with an empty database, which the leader's
                replaces before anything is applied (repair.py)
    empty       though the log begins after a snapshot: a replacement was interrupted, so as damaged
The damaged database is set aside, and discarded once another one has data.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from tercet.errors import CorruptRecord, DamagedDatabase, StorageFailure
from tercet.replica.membership import Member
from tercet.replica.state_machine import StateMachine
from tercet.storage.interfaces import Backend
from tercet.storage.wal_recovery import Recovered

logger = logging.getLogger(__name__)

Load = Callable[[], tuple[Backend, StateMachine]]
"""Opens the database and builds the state machine from it. Raises StorageFailure, also CorruptRecord or DamagedDatabase."""


class DatabaseFile(Protocol):
    """A member's database as a file."""

    @property
    def database_path(self) -> str:
        """For messages."""
        ...

    def has_database(self) -> bool: ...

    def set_aside_database(self) -> None:
        """Make room for a new database in place of a damaged one, which is closed. Raises StorageFailure."""
        ...

    def discard_damaged(self) -> None:
        """Remove a database that was set aside. Raises StorageFailure."""
        ...


def require_database(file: DatabaseFile, recovered: Recovered) -> None:
    """Raises StorageFailure if the database is missing, and the log alone does not make it."""
    if recovered.snapshot is not None and not file.has_database():
        raise StorageFailure(f"database file ({file.database_path}) of the backend is missing")


def load_database(
    load: Load,
    file: DatabaseFile,
    recovered: Recovered,
    *,
    has_others: bool,
    members: Sequence[Member] | None,
) -> tuple[Backend, StateMachine]:
    """The state, or what takes its place.

    has_others: the cluster has other members, as far as is known. members: of the cluster, after this has raised CorruptRecord
    or DamagedDatabase, to start without a database.
    Raises CorruptRecord or DamagedDatabase if only the leader has the data, and for the only member of a cluster.
    """
    if members is not None:
        file.set_aside_database()
        backend, state_machine = load()
        state_machine.membership.assume(members)
        return backend, state_machine
    try:
        backend, state_machine = load()
    except (CorruptRecord, DamagedDatabase) as damage:
        if recovered.snapshot is not None or not has_others:
            raise
        logger.warning("%s: rebuilding the database from the write-ahead log, which reaches back to the first entry", damage)
        file.set_aside_database()
        return load()
    if recovered.snapshot is not None and backend.applied_index == 0:
        backend.close()
        raise DamagedDatabase(f"database {file.database_path} is empty: the replacement of a damaged one was interrupted")
    if backend.applied_index:
        file.discard_damaged()
    return backend, state_machine
