"""Where does a member go on after a crash? From what its backend has applied, its log's mark and its log's entries, to raft
as it stood.

With A the backend's applied index, S the log's mark and L the log's last entry:
    S <= A <= L    the usual case: raft goes on from A, with the entries behind S
    A > L          a snapshot was installed, and the power went before the log heard of it: the log begins anew behind A
    A is of another term in the log
                   the same; what the log holds there, and behind, was never committed
    A < S          the backend is older than what the log was cut behind: it is not the one that belongs here, refuse

Pure but for one thing: where it begins anew the log is told of its new beginning before raft may promise anything on top of it.
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

FOUNDING_TERM: Final = 1


def is_blank(recovered: Recovered) -> bool:
    """Nothing was ever written to this log: it is of a first start, or of one that was cut short."""
    return not recovered.entries and recovered.snapshot is None and recovered.hard_state == HardState()


def write_bootstrap_entries(wal: WAL, members: Sequence[Member]) -> Recovered:
    """Begin the log of a new cluster: the addition of each founder, by ascending id, as if committed in term 1.

    All founders write the same, so their logs agree before the first election (etcd: raft's StartNode and bootstrap).
    """
    entries = []
    for index, member in enumerate(sorted(members, key=lambda member: member.id), start=1):
        change = ConfChange(ConfChangeType.ADD_NODE, node_id=member.id, context=change_context(member))
        entries.append(Entry(FOUNDING_TERM, index, encode_conf_change(change), EntryType.CONF_CHANGE))
    hard_state = HardState(term=FOUNDING_TERM, vote=0, commit=len(entries))
    wal.append(hard_state, entries)
    wal.sync()
    return Recovered(b"", hard_state, None, entries, None)


def restore(config: RaftConfig, wal: WAL, recovered: Recovered, backend: Backend) -> Raft:
    """Raft as it stood. Raises StorageFailure if backend and log do not belong together, or entries are missing."""
    applied = backend.applied_index
    snapshot = recovered.snapshot
    mark = snapshot.index if snapshot else 0
    last = recovered.entries[-1].index if recovered.entries else mark
    if applied < mark:
        raise StorageFailure(f"the backend (index {applied}) does not match with the log's snapshot (index {mark})")
    conf_state = conf_state_in(backend)
    term, vote, commit = recovered.hard_state
    if applied > last or (applied > mark and recovered.entries[applied - mark - 1].term != backend.applied_term):
        log = RaftLog(applied, backend.applied_term)
        wal.save_snapshot(Snapshot(applied, backend.applied_term, conf_state))
        wal.sync()
    else:
        log = RaftLog(mark, snapshot.term if snapshot else 0, recovered.entries)
    if log.last_term > term:  # a snapshot's term that the log had not heard of: nobody was voted for in it
        term, vote = log.last_term, 0
    return Raft(config, log, hard_state=HardState(term, vote, max(commit, applied)), conf_state=conf_state, applied=applied)
