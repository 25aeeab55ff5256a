"""Everything of a member that survives it: the lock, the log and the backend, opened in the one order that cannot lose
anything.

    <data-dir>/lock                 held while a process uses the directory
    <data-dir>/member/wal/          the write-ahead log (or --wal-dir)
    <data-dir>/member/snap/db       the backend; beside it databases received from peers

Opening decides where the member goes on: the backend's applied index A, the log's mark S and its last entry L.
    S <= A <= L    the usual case: raft goes on from A, with the entries behind S
    A > L          a snapshot was installed, and the power went before the log heard of it: the log begins anew behind A
    A < S          the backend is older than what the log was cut behind: it is not the one that belongs here, refuse

Source: etcd server/etcdserver/bootstrap.go and backend.go, for what is refused and how it is called.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from tercet.errors import ConfigError, StorageFailure
from tercet.proto import internal_pb2
from tercet.raft import Raft, RaftConfig, RaftLog
from tercet.raft.codec import encode_conf_change
from tercet.raft.types import ConfChange, ConfChangeType, Entry, EntryType, HardState, Snapshot
from tercet.replica.membership import Member, change_context, hex_id
from tercet.replica.state_machine import StateMachine, conf_state_in
from tercet.server.origin import Origin, founders, initial_cluster
from tercet.server.server_config import ServerConfig
from tercet.storage.interfaces import Backend
from tercet.storage.lmdb_backend import LmdbBackend
from tercet.storage.os_filesystem import OsFileSystem
from tercet.storage.wal import WAL
from tercet.storage.wal_recovery import Recovered

log = logging.getLogger(__name__)

_FIRST_TERM: Final = 1


@dataclass(frozen=True, slots=True)
class Paths:
    """Where a member keeps what."""

    data: Path
    wal: Path
    snapshots: Path

    @classmethod
    def of(cls, config: ServerConfig) -> Paths:
        data = Path(config.data_dir)
        wal = Path(config.wal_dir) if config.wal_dir else data / "member" / "wal"
        return cls(data, wal, data / "member" / "snap")

    @property
    def database(self) -> Path:
        return self.snapshots / "db"

    def create(self) -> None:
        """Make the directories, for the owner only. Raises ConfigError."""
        for directory in (self.data, self.wal.parent, self.snapshots):
            try:
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigError(f"cannot make directory {directory}: {error.strerror}") from error
            if not os.access(directory, os.W_OK | os.X_OK):
                raise ConfigError(f"cannot access data directory {directory}: permission denied")


@dataclass(frozen=True, slots=True)
class Opened:
    """A member's state, as it was left or as its origin says."""

    member_id: int
    cluster_id: int
    wal: WAL
    backend: Backend
    machine: StateMachine
    raft: Raft


def has_log(paths: Paths) -> bool:
    """Whether this member has run before."""
    return WAL.exists(OsFileSystem(), str(paths.wal))


def open_member(config: ServerConfig, paths: Paths, origin: Origin | None) -> Opened:
    """Open, or with an `origin` create, all that a member keeps. Raises StorageFailure or ConfigError."""
    if origin is None:
        wal, recovered = WAL.open(OsFileSystem(), str(paths.wal))
        metadata = internal_pb2.Metadata.FromString(recovered.metadata)
        if recovered.repaired:
            log.warning("repaired the write-ahead log: %s", recovered.repaired)
        if recovered.snapshot is not None and not paths.database.exists():
            raise StorageFailure(f"database file ({paths.database}) of the backend is missing")
    else:
        metadata = internal_pb2.Metadata(NodeID=origin.member_id, ClusterID=origin.cluster_id)
        if paths.database.exists():
            # The log is made before the database, so this one belonged to a log that is gone or elsewhere.
            raise ConfigError(f"database file ({paths.database}) has no write-ahead log in {paths.wal}: is --wal-dir right?")
        wal = WAL.create(OsFileSystem(), str(paths.wal), metadata.SerializeToString())
        recovered = Recovered(b"", HardState(), None, [], None)
    backend = LmdbBackend(
        str(paths.database),
        loop=asyncio.get_running_loop(),
        batch_seconds=config.backend_batch_interval_seconds,
        batch_operations=config.backend_batch_limit,
    )
    if _is_blank(recovered) and config.initial_cluster_state == "new":
        recovered = _write_founding(wal, _founding_members(config, metadata.NodeID))
    machine = StateMachine(backend, max_learners=config.max_learners, lease_seconds_min=lease_seconds_min(config))
    raft = _restore(config, wal, recovered, backend, metadata.NodeID)
    return Opened(metadata.NodeID, metadata.ClusterID, wal, backend, machine, raft)


def lease_seconds_min(config: ServerConfig) -> int:
    """No lease may run out before a new leader can be elected: one and a half election timeouts, in whole seconds."""
    milliseconds = 3 * config.election_ticks // 2 * config.heartbeat_interval
    return -(-milliseconds // 1000)


def _is_blank(recovered: Recovered) -> bool:
    """A log that nothing was ever written to: of a first start, or of one that was cut short."""
    return not recovered.entries and recovered.snapshot is None and recovered.hard_state == HardState()


def _founding_members(config: ServerConfig, own_id: int) -> tuple[Member, ...]:
    members = founders(initial_cluster(config), config.initial_cluster_token)
    if own_id not in {member.id for member in members}:
        raise ConfigError(f"the write-ahead log belongs to member {hex_id(own_id)}, which --initial-cluster does not name")
    return members


def _write_founding(wal: WAL, members: Sequence[Member]) -> Recovered:
    """The log of a new cluster begins with the addition of each founder, the same on all of them, as if committed in term 1."""
    entries = []
    for index, member in enumerate(members, start=1):
        change = ConfChange(ConfChangeType.ADD_NODE, node_id=member.id, context=change_context(member))
        entries.append(Entry(_FIRST_TERM, index, encode_conf_change(change), EntryType.CONF_CHANGE))
    hard_state = HardState(term=_FIRST_TERM, vote=0, commit=len(entries))
    wal.append(hard_state, entries)
    wal.sync()
    return Recovered(b"", hard_state, None, entries, None)


def _restore(config: ServerConfig, wal: WAL, recovered: Recovered, backend: Backend, member_id: int) -> Raft:
    """Raft as it stood, given what the backend has applied already."""
    applied = backend.applied_index
    mark = recovered.snapshot.index if recovered.snapshot else 0
    last = recovered.entries[-1].index if recovered.entries else mark
    if applied < mark:
        raise StorageFailure(f"database file ({backend.path} index {applied}) does not match with snapshot (index {mark})")
    conf_state = conf_state_in(backend)
    if applied > last:
        term = backend.applied_term
        wal.save_snapshot(Snapshot(applied, term, conf_state))
        wal.sync()
        raft_log = RaftLog(applied, term)
    else:
        raft_log = RaftLog(mark, recovered.snapshot.term if recovered.snapshot else 0, recovered.entries)
    term, vote, commit = recovered.hard_state
    if raft_log.last_term > term:  # a snapshot's term that the log had not heard of: nobody was voted for in it
        term, vote = raft_log.last_term, 0
    hard_state = HardState(term, vote, max(commit, applied))
    settings = RaftConfig(
        id=member_id, election_ticks=config.election_ticks, pre_vote=config.pre_vote, random=Random(os.urandom(16))
    )
    return Raft(settings, raft_log, hard_state=hard_state, conf_state=conf_state, applied=applied)
