"""Forgets everything that clients have stored, as if the cluster had just been made; for tests that share one.

Membership, cluster version and raft's configuration stay, and so do term and log: entries up to the applied one are part of
the past. The rest is gone: keys and their history (the revision is 1 again), leases, alarms, users and roles.

Not replicated. The caller resets all members at one applied index; a member with another one would diverge.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tercet.errors import require
from tercet.raft.types import Snapshot
from tercet.replica.replica import Replica
from tercet.replica.state_machine import CONF_STATE_KEY, conf_state_in, prepare
from tercet.storage.interfaces import Backend, Bucket

_KEPT: Final = (Bucket.MEMBERS, Bucket.MEMBERS_REMOVED, Bucket.CLUSTER)
_KEPT_META: Final = (CONF_STATE_KEY, b"storageVersion")


def is_idle(replica: Replica) -> bool:
    """Whether everything in the log is applied, so that `reset` may be called."""
    raft = replica.raft
    return raft.applied_index == raft.commit_index == raft.log.last_index == replica.applied_index


def reset(replica: Replica) -> None:
    """Reset an idle replica, durably. Watches stay; they would continue from their revisions, so cancel them before."""
    require(is_idle(replica), "reset while entries wait to be applied", replica.applied_index)
    machine = replica.state_machine
    backend = machine.backend
    snapshot = Snapshot(replica.applied_index, backend_term(replica), conf_state_in(backend))
    machine.install(prepare(backend, _kept(backend), snapshot, lease_seconds_min=machine.lease_seconds_min), snapshot)
    backend.applied(snapshot.index, snapshot.term)
    backend.commit_now()
    replica.leases.check_leadership(is_reset=True)
    replica.leases.applied(snapshot.index, snapshot.term)


def backend_term(replica: Replica) -> int:
    """The term of the last applied entry."""
    return replica.raft.log.term(replica.applied_index) or replica.backend.applied_term


def _kept(backend: Backend) -> Iterator[tuple[Bucket, bytes, bytes]]:
    for bucket in _KEPT:
        for key, value in backend.scan(bucket):
            yield bucket, key, value
    for key in _KEPT_META:
        stored = backend.get(Bucket.META, key)
        if stored is not None:
            yield Bucket.META, key, stored
