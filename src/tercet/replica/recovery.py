"""Recovery: from backend and write-ahead log to raft as it was before the restart.

With A the backend's applied index, S the log's snapshot index and L its last index:
    S <= A <= L    the usual case: raft resumes at A, with the entries after S
    A > L          a snapshot was installed, and the crash came before the log recorded it: the log restarts at A
    A has another term in the log
                   the same; the log's entries from there on were never committed
    A = 0 < S      the database was lost, and this one is empty: raft resumes at S, and the member takes a database from the
                   leader before it does anything else with what is applied (repair.py)
    0 < A < S      the backend is older than the start of the log: it belongs to another member, refuse

If the log restarts, that is durable before raft can acknowledge anything after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tercet.errors import StorageFailure
from tercet.raft import Raft, RaftConfig, RaftLog
from tercet.raft.codec import encode_conf_change
from tercet.raft.types import ConfChange, ConfChangeType, Entry, EntryType, HardState, Snapshot
from tercet.replica.membership import Member, change_context
from tercet.replica.state_machine import conf_state_in
from tercet.storage.interfaces import Backend
from tercet.storage.wal import WAL
from tercet.storage.wal_recovery import Recovered

BOOTSTRAP_TERM: Final = 1


def is_blank(recovered: Recovered) -> bool:
    """Is nothing in this log: is this a first start, or was the first start interrupted?"""
    return not recovered.entries and recovered.snapshot is None and recovered.hard_state == HardState()


def write_bootstrap_entries(wal: WAL, members: Sequence[Member]) -> Recovered:
    """Write the first entries of a new cluster: the addition of each initial member, by ascending id, committed in term 1.

    All initial members write the same, so their logs match before the first election (etcd: raft's StartNode and bootstrap).
    """
    entries = []
    for index, member in enumerate(sorted(members, key=lambda member: member.id), start=1):
        change = ConfChange(ConfChangeType.ADD_NODE, node_id=member.id, context=change_context(member))
        entries.append(Entry(BOOTSTRAP_TERM, index, encode_conf_change(change), EntryType.CONF_CHANGE))
    hard_state = HardState(term=BOOTSTRAP_TERM, vote=0, commit=len(entries))
    wal.append(hard_state, entries)
    wal.sync()
    return Recovered(b"", hard_state, None, entries, None)


def restore(config: RaftConfig, wal: WAL, recovered: Recovered, backend: Backend) -> Raft:
    """Restore raft. Raises StorageFailure if backend and log do not belong together, or entries are missing.

    Where the database was lost, the log's snapshot record has the configuration to resume with.
    """
    applied = backend.applied_index
    snapshot = recovered.snapshot
    mark = snapshot.index if snapshot else 0
    last = recovered.entries[-1].index if recovered.entries else mark
    if 0 < applied < mark:
        raise StorageFailure(f"the backend (index {applied}) does not match with the log's snapshot (index {mark})")
    term, vote, commit = recovered.hard_state
    log = RaftLog(mark, snapshot.term if snapshot else 0, recovered.entries)
    if snapshot is not None and applied < mark:
        applied, conf_state = mark, snapshot.conf_state
    else:
        conf_state = conf_state_in(backend)
        if applied > last or (applied > mark and recovered.entries[applied - mark - 1].term != backend.applied_term):
            log = RaftLog(applied, backend.applied_term)
            wal.save_snapshot(Snapshot(applied, backend.applied_term, conf_state))
            wal.sync()
    if log.last_term > term:  # the log had not recorded the snapshot's term, so no vote was given in it
        term, vote = log.last_term, 0
    return Raft(config, log, hard_state=HardState(term, vote, max(commit, applied)), conf_state=conf_state, applied=applied)
