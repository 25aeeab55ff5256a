"""What the log means: every kind of request that an entry may carry, applied to the store, the leases, the alarms and the
membership.

Deterministic: the same entries give the same state and the same answers on every member, so nothing here asks a clock, chance
or the local disk. Only a RequestError may come out of an apply; anything else would let members answer differently and stops
the member.

One exception is etcd's: the quota is measured locally. It never changes what is written, only what the client hears (quota.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

from tercet import errors
from tercet.errors import StorageFailure
from tercet.lease import Lessor
from tercet.mvcc import Counts, Loaded, Store
from tercet.mvcc.check import contains_put
from tercet.proto import internal_pb2, rpc_pb2
from tercet.raft.types import ConfState, Snapshot
from tercet.replica.alarms import Alarms
from tercet.replica.membership import Membership
from tercet.storage.interfaces import Backend, Bucket, ReadView, Staged

CONF_STATE_KEY: Final = b"confState"

Handler = Callable[[Any], bytes]

# Requests that change nothing, whoever answers them: a member that did not ask may pass over them.
_READ_ONLY: Final = (
    "auth_status",
    "auth_user_get",
    "auth_user_list",
    "auth_role_get",
    "auth_role_list",
    "downgrade_version_test",
)


def conf_state_in(source: Backend | ReadView) -> ConfState:
    """The configuration that a backend or a view of one holds; empty if none was ever applied."""
    raw = json.loads(source.get(Bucket.META, CONF_STATE_KEY) or b"{}")
    return ConfState(
        voters=tuple(raw.get("voters") or ()),
        learners=tuple(raw.get("learners") or ()),
        voters_outgoing=tuple(raw.get("voters_outgoing") or ()),
        learners_next=tuple(raw.get("learners_next") or ()),
        auto_leave=bool(raw.get("auto_leave")),
    )


class StagedSnapshot:
    """A received database that is one step from being ours: staged beside the backend's own, its index of keys read."""

    def __init__(self, staged: Staged, loaded: Loaded) -> None:
        self.staged = staged
        self.loaded = loaded


def prepare(backend: Backend, items: Iterable[tuple[Bucket, bytes, bytes]], snapshot: Snapshot) -> StagedSnapshot:
    """Do the long part of an installation; may run in any thread. Raises StorageFailure (a damaged database, a full disk)."""
    staged = backend.stage(items, index=snapshot.index, term=snapshot.term)
    try:
        view = staged.view()
        try:
            _rehearse(view, snapshot, is_ahead=staged.point[0] > snapshot.index)
            return StagedSnapshot(staged, Loaded(view))
        finally:
            view.close()
    except BaseException:
        staged.discard()
        raise


class _SnapshotDryRun:
    """A view that takes writes, and forgets them."""

    def __init__(self, view: ReadView) -> None:
        self.get = view.get
        self.scan = view.scan

    def put(self, bucket: Bucket, key: bytes, value: bytes) -> None: ...


def _rehearse(view: ReadView, snapshot: Snapshot, *, is_ahead: bool) -> None:
    """Read all that is read when the old state is gone. What cannot be read then would stop this member at every start, and
    with nothing to go back to; now it is only refused.
    """
    stage = cast(Backend, _SnapshotDryRun(view))
    try:
        Alarms(stage)
        Lessor(stage, ttl_seconds_min=1)
        Membership(stage).merge_v2_json(snapshot.data, learners=conf_state_in(view).learners, is_ahead=is_ahead)
    except StorageFailure:
        raise
    except Exception as error:
        raise StorageFailure(f"the database of a snapshot cannot be read: {type(error).__name__}: {error}") from error


class StateMachine:
    """The replicated state of one member, on a backend that already holds all up to `backend.applied_index`."""

    def __init__(self, backend: Backend, *, max_learners: int = 1, lease_seconds_min: int = 2) -> None:
        """lease_seconds_min: the shortest lease that is granted; like max_learners it must be the same on all members."""
        self.backend = backend
        self._lease_seconds_min = lease_seconds_min
        self._max_learners = max_learners
        self.on_compaction: Callable[[], None] = lambda: None
        self.counts = Counts()  # of the member, not of the state: it outlives stores
        self.load()

    def load(self, loaded: Loaded | None = None) -> None:
        """(Re)build everything that lives in memory from the backend: at start, and after a snapshot has replaced it.

        loaded: the store's part, where it was read beforehand.
        """
        self.lessor = Lessor(self.backend, ttl_seconds_min=self._lease_seconds_min)
        self.store = Store(self.backend, leases=self.lessor, loaded=loaded, counts=self.counts)
        self.alarms = Alarms(self.backend)
        self.membership = Membership(self.backend, max_learners=self._max_learners)
        self._choose_handlers()

    def install(self, prepared: StagedSnapshot | None, snapshot: Snapshot) -> tuple[int, int]:
        """Become the state that a snapshot describes, durably, before returning. The old state is gone.

        Returns the (index, term) that the database had reached when it was read: its sender may have applied more than it
        announced, and entries up to there must not be applied again.
        Raises StorageFailure if there is no database for this snapshot.
        """
        if prepared is None:
            raise StorageFailure(f"no database was received for the snapshot at index {snapshot.index}")
        point = self.backend.install(prepared.staged)
        self.load(prepared.loaded)
        conf_state = conf_state_in(self.backend)
        learners = conf_state.learners if conf_state.voters else snapshot.conf_state.learners
        self.membership.merge_v2_json(snapshot.data, learners=learners, is_ahead=point[0] > snapshot.index)
        return point

    def save_conf_state(self, conf_state: ConfState) -> None:
        """Keep raft's configuration beside the data that it was applied with; a restart begins from both."""
        raw: dict[str, Any] = {"voters": list(conf_state.voters)}
        for name in ("learners", "voters_outgoing", "learners_next"):
            if members := getattr(conf_state, name):
                raw[name] = list(members)
        raw["auto_leave"] = conf_state.auto_leave
        self.backend.put(Bucket.META, CONF_STATE_KEY, json.dumps(raw, separators=(",", ":")).encode())

    def apply(self, field: str, message: Any) -> bytes:
        """Apply one request. Returns the response's encoded body without its header; raises RequestError."""
        return self.handlers[field](message)

    # --- which handlers, given the alarms

    def _choose_handlers(self) -> None:
        """Alarms stand for hours or never: decide here, once a change, what they forbid, and not on every request."""
        handlers = self._plain_handlers()
        if self.alarms.no_space:
            handlers["put"] = handlers["lease_grant"] = _refuse(errors.NO_SPACE)
            handlers["txn"] = self._txn_without_space
        if self.alarms.corrupt:
            for field in ("put", "range", "delete_range", "txn", "compaction", "lease_grant", "lease_revoke"):
                handlers[field] = _refuse(errors.CORRUPT)
        self.handlers = handlers

    def _plain_handlers(self) -> dict[str, Handler]:
        handlers: dict[str, Handler] = {
            "put": self.store.put,
            "range": self.store.range,
            "delete_range": self.store.delete_range,
            "txn": self.store.txn,
            "compaction": self._compaction,
            "lease_grant": self._lease_grant,
            "lease_revoke": self._lease_revoke,
            "lease_checkpoint": self._lease_checkpoint,
            "alarm": self._alarm,
            "cluster_version_set": self._cluster_version_set,
            "cluster_member_attr_set": self._cluster_member_attr_set,
            "downgrade_info_set": self._downgrade_info_set,
            "v2": self._v2,
        }
        for name in _READ_ONLY:
            handlers[name] = _nothing
        for descriptor in internal_pb2.InternalRaftRequest.DESCRIPTOR.fields:
            handlers.setdefault(descriptor.name, _unsupported(descriptor.name))
        return handlers

    # --- one method a request

    def _txn_without_space(self, request: rpc_pb2.TxnRequest) -> bytes:
        if contains_put(request):
            raise errors.NO_SPACE
        return self.store.txn(request)

    def _compaction(self, request: rpc_pb2.CompactionRequest) -> bytes:
        self.store.compact(request.revision)
        self.on_compaction()
        return b""

    def _lease_grant(self, request: rpc_pb2.LeaseGrantRequest) -> bytes:
        lease = self.lessor.grant(request.ID, request.TTL)
        return rpc_pb2.LeaseGrantResponse(ID=lease.id, TTL=lease.ttl_seconds).SerializeToString()

    def _lease_revoke(self, request: rpc_pb2.LeaseRevokeRequest) -> bytes:
        self.lessor.revoke(request.ID, self.store.delete_keys)
        return b""

    def _lease_checkpoint(self, request: rpc_pb2.LeaseCheckpointRequest) -> bytes:
        for checkpoint in request.checkpoints:
            self.lessor.checkpoint(checkpoint.ID, checkpoint.remaining_TTL)
        return b""

    def _alarm(self, request: rpc_pb2.AlarmRequest) -> bytes:
        alarms = self.alarms.apply(request)
        self._choose_handlers()
        return rpc_pb2.AlarmResponse(alarms=alarms).SerializeToString()

    def _cluster_version_set(self, request: internal_pb2.ClusterVersionSetRequest) -> bytes:
        self.membership.set_cluster_version(request.ver)
        return b""

    def _cluster_member_attr_set(self, request: internal_pb2.ClusterMemberAttrSetRequest) -> bytes:
        attributes = request.member_attributes
        self.membership.set_attributes(request.member_ID, attributes.name, attributes.client_urls)
        return b""

    def _downgrade_info_set(self, request: internal_pb2.DowngradeInfoSetRequest) -> bytes:
        self.membership.set_downgrade(request.enabled, request.ver)
        return b""

    def _v2(self, request: internal_pb2.Request) -> bytes:
        if request.Method == "PUT":
            self.membership.apply_v2(request.Path, request.Val)
        return b""


def _nothing(request: object) -> bytes:
    return b""


def _refuse(error: errors.RequestError) -> Handler:
    def refuse(request: object) -> bytes:
        raise error

    return refuse


def _unsupported(field: str) -> Handler:
    """An entry that changes state in a way this version does not keep: going on would be to differ from the others in
    silence.
    """

    def stop(request: object) -> bytes:
        raise StorageFailure(f"the log holds a request that this version cannot apply ({field}): upgrade this member")

    return stop
