"""Start of a member: what its disk and database hold becomes a running raft, as server/ does it in production."""

from __future__ import annotations

from random import Random
from typing import Final, NamedTuple

from tercet.errors import CorruptRecord, DamagedDatabase, require
from tercet.raft import Raft
from tercet.raft.codec import conf_change_in
from tercet.raft.types import ConfChange, EntryType, HardState
from tercet.replica.damaged_database import load_database, require_database
from tercet.replica.membership import Member
from tercet.replica.recovery import is_blank, restore, write_bootstrap_entries
from tercet.replica.state_machine import StateMachine
from tercet.sim.backend import SimulatedBackend
from tercet.sim.database_file import SimulatedDatabaseFile
from tercet.sim.disk import SEGMENT_BYTES, Disk
from tercet.sim.environment import Environment
from tercet.storage.wal import WAL
from tercet.storage.wal_recovery import Recovered

LOG_DIRECTORY: Final = "wal"


class Started(NamedTuple):
    """What one incarnation of a member begins with."""

    wal: WAL
    raft: Raft
    state_machine: StateMachine


def recover(member_id: int, disk: Disk, database: SimulatedDatabaseFile, random: Random, environment: Environment) -> Started:
    """Open the log and the database, or create them, and restore raft from them.

    Raises PowerCut, or StorageFailure where the log is damaged, or the database is and no other member answers.
    """
    wal, recovered = _open_log(member_id, disk, random, environment)
    require_database(database, recovered)
    if is_blank(recovered) and member_id in environment.initial_members:
        recovered = write_bootstrap_entries(wal, [initial_member(one) for one in environment.initial_members])

    def load() -> tuple[SimulatedBackend, StateMachine]:
        backend = database.open()
        return backend, StateMachine(backend, persist_checkpoints=True)

    has_others = any(one != member_id for one in _known_members(recovered, environment))
    try:
        backend, state_machine = load_database(load, database, recovered, has_others=has_others, members=None)
    except (CorruptRecord, DamagedDatabase) as damage:
        members = environment.find_members(member_id) if has_others else []
        if not members:
            raise
        environment.trace(member_id, f"starts without a database: {damage}")
        backend, state_machine = load_database(load, database, recovered, has_others=has_others, members=members)
    if recovered.snapshot is not None and not backend.applied_index:
        require(
            bool(state_machine.membership.members), "starts without a database, and knows no member to get one of", member_id
        )
    config = environment.settings.raft(member_id, Random(random.getrandbits(64)))
    return Started(wal, restore(config, wal, recovered, backend), state_machine)


def initial_member(member_id: int) -> Member:
    """A member as it is added to the cluster: with a peer URL, not yet started."""
    return Member(member_id, (f"http://{member_id}:2380",))


def _known_members(recovered: Recovered, environment: Environment) -> set[int]:
    """The members that flags and log name, current or not."""
    known = set(environment.initial_members)
    for entry in recovered.entries:
        if entry.type != EntryType.NORMAL:
            change = conf_change_in(entry)
            known.update([change.node_id] if isinstance(change, ConfChange) else (member for _, member in change.changes))
    return known


def _open_log(member_id: int, disk: Disk, random: Random, environment: Environment) -> tuple[WAL, Recovered]:
    if not WAL.exists(disk, LOG_DIRECTORY):
        salt = random.randbytes(8)
        wal = WAL.create(disk, LOG_DIRECTORY, b"%d" % member_id, segment_bytes=SEGMENT_BYTES, salt=salt)
        return wal, Recovered(b"", HardState(), None, [], None)
    wal, recovered = WAL.open(disk, LOG_DIRECTORY, segment_bytes=SEGMENT_BYTES)
    if recovered.repaired:
        environment.trace(member_id, f"repaired its log: {recovered.repaired}")
    return wal, recovered
