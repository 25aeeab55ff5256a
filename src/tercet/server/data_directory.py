"""A member's persistent state: opened, or created at bootstrap.

    <data-dir>/                     locked while a process uses it
    <data-dir>/member/wal/          the write-ahead log (or --wal-dir)
    <data-dir>/member/snap/db       the backend, and databases received from peers

replica/recovery.py derives the state to continue from out of log and backend. A damaged backend is made again from the log, if
that reaches back to its first entry, or else replaced by the leader's (replica/damaged_database.py, lost_database.py).

Source: etcd server/etcdserver/bootstrap.go and backend.go, for what is rejected and the texts.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import NamedTuple

from tercet.config.server_config import ServerConfig
from tercet.errors import ConfigError, CorruptRecord, DamagedDatabase
from tercet.proto import internal_pb2
from tercet.raft import Raft, RaftConfig
from tercet.raft.types import HardState
from tercet.replica import storage_version
from tercet.replica.damaged_database import load_database, require_database
from tercet.replica.force_new_cluster import force_new_cluster
from tercet.replica.membership import Member, hex_id
from tercet.replica.recovery import is_blank, restore, write_bootstrap_entries
from tercet.replica.state_machine import StateMachine
from tercet.server.auth_tokens import make_tokens
from tercet.server.bootstrap import Bootstrap, initial_cluster, initial_members
from tercet.server.lost_database import LostDatabase, known_peer_urls
from tercet.server.member_storage import MemberStorage, Paths
from tercet.storage.interfaces import Backend
from tercet.storage.wal import WAL
from tercet.storage.wal_recovery import Recovered

logger = logging.getLogger(__name__)


class Opened(NamedTuple):
    """A member's state after recovery or bootstrap."""

    member_id: int
    cluster_id: int
    wal: WAL
    backend: Backend
    state_machine: StateMachine
    raft: Raft


def has_log(storage: MemberStorage) -> bool:
    """Whether this member has run before. Raises ConfigError for a database without a log.

    Asked before the cluster is: a cluster that knows the member would advise to remove it, as if its data were lost.
    """
    if WAL.exists(storage.files, str(storage.paths.wal)):
        return True
    if storage.has_database():
        raise _database_without_log(storage.paths)
    return False


def _database_without_log(paths: Paths) -> ConfigError:
    """The log is created before the database, so this database belongs to a log that is lost or elsewhere, or is etcd's."""
    if paths.database.is_file():
        return ConfigError(
            f"{paths.data} is a data directory of etcd (its database {paths.database} is a bbolt file): "
            f"make one of tercet with tercetutl convert --data-dir {paths.data} --output-dir NEW, and start with --data-dir NEW"
        )
    return ConfigError(f"database file ({paths.database}) has no write-ahead log in {paths.wal}: is --wal-dir right?")


def open_member(
    config: ServerConfig,
    storage: MemberStorage,
    bootstrap: Bootstrap | None,
    *,
    members: Sequence[Member] | None = None,
    on_failure: Callable[[Exception], None],
    on_corruption: Callable[[CorruptRecord], None],
    observe_commit: Callable[[float], None],
    clock: Callable[[], float],
) -> Opened:
    """Open, or with a `bootstrap` create, the log and the backend.

    clock: of tokens. members: of the cluster, to start without a database after this has raised LostDatabase.
    Raises LostDatabase, StorageFailure or ConfigError.
    """
    tokens = make_tokens(config, clock)
    files, paths = storage.files, storage.paths
    if bootstrap is None:
        wal, recovered = WAL.open(files, str(paths.wal), segment_bytes=storage.segment_bytes)
        metadata = internal_pb2.Metadata.FromString(recovered.metadata)
        if recovered.repaired:
            logger.warning("repaired the write-ahead log: %s", recovered.repaired)
        require_database(storage, recovered)
    else:
        _check_learners(bootstrap.members, config.max_learners)
        metadata = internal_pb2.Metadata(NodeID=bootstrap.member_id, ClusterID=bootstrap.cluster_id)
        wal = WAL.create(files, str(paths.wal), metadata.SerializeToString(), segment_bytes=storage.segment_bytes)
        recovered = Recovered(b"", HardState(), None, [], None)
    for received in paths.snapshots.glob("*.snap.db"):
        received.unlink(missing_ok=True)  # left by a crash before its installation; the leader sends another
    is_first_start = is_blank(recovered) and config.initial_cluster_state == "new"
    if is_first_start:
        recovered = write_bootstrap_entries(wal, _founding_members(config, metadata.NodeID))

    def load() -> tuple[Backend, StateMachine]:
        backend = storage.open_backend(
            asyncio.get_running_loop(), on_failure=on_failure, on_corruption=on_corruption, observe_commit=observe_commit
        )
        try:
            return backend, StateMachine(
                backend,
                max_learners=config.max_learners,
                lease_seconds_min=lease_seconds_min(config),
                persist_checkpoints=config.feature_gates["LeaseCheckpointPersist"],
                tokens=tokens,
            )
        except BaseException:
            backend.close()
            raise

    try:
        backend, state_machine = load_database(
            load,
            storage,
            recovered,
            has_others=bool(known_peer_urls(config, recovered)),
            members=members,
        )
    except (CorruptRecord, DamagedDatabase) as damage:
        wal.close()
        raise LostDatabase(
            str(damage),
            member_id=metadata.NodeID,
            cluster_id=metadata.ClusterID,
            data=str(paths.data),
            peer_urls=known_peer_urls(config, recovered),
        ) from damage
    try:
        _check_learners(state_machine.membership.members.values(), config.max_learners)
    except ConfigError:
        backend.close()
        wal.close()
        raise
    if config.force_new_cluster and bootstrap is None:
        urls = [url.text for url in config.initial_advertise_peer_urls]
        recovered = force_new_cluster(state_machine, wal, recovered, member_id=metadata.NodeID, peer_urls=urls)
    if members is None:
        storage_version.follow(backend, state_machine.membership.cluster_version)
        backend.applied(backend.applied_index, backend.applied_term)
    settings = RaftConfig(
        id=metadata.NodeID,
        election_ticks=config.election_ticks,
        pre_vote=config.pre_vote,
        defer_commit_broadcast=True,
        random=Random(os.urandom(16)),
    )
    raft = restore(settings, wal, recovered, backend)
    return Opened(metadata.NodeID, metadata.ClusterID, wal, backend, state_machine, raft)


def lease_seconds_min(config: ServerConfig) -> int:
    """1.5 election timeouts in whole seconds, so that a new leader can be elected before a lease expires."""
    milliseconds = 3 * config.election_ticks // 2 * config.heartbeat_interval
    return -(-milliseconds // 1000)


def _check_learners(members: Iterable[Member], most: int) -> None:
    """Raises ConfigError, with etcd's text, if --max-learners is lower than the number of learners that there are."""
    if sum(member.is_learner for member in members) > most:
        raise ConfigError("membership: too many learner members in cluster")


def _founding_members(config: ServerConfig, own_id: int) -> tuple[Member, ...]:
    members = initial_members(initial_cluster(config), config.initial_cluster_token)
    if own_id not in {member.id for member in members}:
        raise ConfigError(f"the write-ahead log belongs to member {hex_id(own_id)}, which --initial-cluster does not name")
    return members
