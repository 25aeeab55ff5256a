"""--force-new-cluster: restart a member as the only one of its cluster, with all its data, after the others are lost for good.

The database's configuration becomes this member alone, as a voter, whatever it was: a learner, one of several, in the middle of
a joint change, or removed. The other members count as removed, so one that comes back stops.

All entries of the log are kept and committed, but without their configuration changes. etcd drops the entries after the
persisted commit index, which lags behind: a write that its client has seen acknowledged may be among them. The log restarts at
the database's index: a member that joins later gets this configuration with a snapshot, not the old changes from the log.

The database is changed first. After a crash before the log is, running it again completes it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from tercet.errors import ConfigError
from tercet.raft.types import ConfState, Entry, EntryType, HardState, Snapshot
from tercet.replica.membership import hex_id
from tercet.replica.state_machine import StateMachine
from tercet.storage.wal import WAL
from tercet.storage.wal_recovery import Recovered

logger = logging.getLogger(__name__)


def force_new_cluster(
    state_machine: StateMachine, wal: WAL, recovered: Recovered, *, member_id: int, peer_urls: Sequence[str]
) -> Recovered:
    """Change database and log, durably; returns the log's new content.

    peer_urls: of a member that the database does not list.
    Raises ConfigError for a member that never had any data, StorageFailure.
    """
    backend = state_machine.backend
    mark = recovered.snapshot.index if recovered.snapshot else 0
    applied, applied_term = backend.applied_index, backend.applied_term
    entries = _continuing(recovered.entries, mark, applied, applied_term)
    if applied == 0:
        if not entries or entries[0].type == EntryType.NORMAL:
            raise ConfigError("--force-new-cluster: this member has no data of its cluster yet")
        applied, applied_term = 1, entries[0].term  # the first change of the configuration, which is replaced
        del entries[0]
    others = [one for one in state_machine.membership.members if one != member_id]
    state_machine.membership.become_only_member(member_id, tuple(peer_urls))
    conf_state = ConfState(voters=(member_id,))
    state_machine.save_conf_state(conf_state)
    backend.applied(applied, applied_term)
    backend.commit_now()
    kept = [entry if entry.type == EntryType.NORMAL else Entry(entry.term, entry.index) for entry in entries]
    last = kept[-1] if kept else Entry(applied_term, applied)
    term, vote, _ = recovered.hard_state
    hard_state = HardState(max(term, last.term), vote if term >= last.term else 0, last.index)
    snapshot = Snapshot(applied, applied_term, conf_state)
    wal.save_snapshot(snapshot)
    wal.append(hard_state, kept)
    wal.sync()
    logger.warning("forced a new cluster: member %s is its only member; removed %s", hex_id(member_id), [*map(hex_id, others)])
    return Recovered(recovered.metadata, hard_state, snapshot, kept, recovered.repaired)


def _continuing(entries: Sequence[Entry], mark: int, applied: int, applied_term: int) -> list[Entry]:
    """The entries after `applied`; none if the log does not continue the database (see recovery.py)."""
    if applied > mark and (applied > mark + len(entries) or entries[applied - mark - 1].term != applied_term):
        return []
    return list(entries[applied - mark :])
