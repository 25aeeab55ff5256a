"""The replicated state: every kind of request that a log entry may hold, applied to store, leases, alarms and membership.

Deterministic: the same entries give the same state and the same answers on every member, so nothing here reads a clock, random
numbers or the local disk. Apply raises only RequestError; any other error would let members diverge, and stops the member.

One exception, as in etcd: the quota is measured locally. It never changes what is written, only the response (quota.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, cast

from tercet import errors
from tercet.auth import AuthStore, Tokens
from tercet.errors import StorageFailure
from tercet.lease import LeaseCounts, Lessor, Listener
from tercet.mvcc import Apply, Counts, Loaded, SmallPut, SmallTxn, Store, WatchHub, whole_answer, whole_apply
from tercet.proto import internal_pb2, rpc_pb2
from tercet.raft.types import ConfChangeV2, ConfState, Snapshot
from tercet.replica import storage_version
from tercet.replica.alarms import Alarms
from tercet.replica.auth_requests import AuthRequests, Guard, Handler
from tercet.replica.lease_revoke import LeaseRevoke
from tercet.replica.membership import Membership
from tercet.replica.requests import AppliedRequest
from tercet.replica.txn_applies import TxnWithoutSpace
from tercet.replica.unsupported import UnsupportedRequest
from tercet.storage.interfaces import Backend, Bucket, ReadView, Staged

CONF_STATE_KEY: Final = b"confState"
_APPLIED_INDEX_KEY: Final = b"consistent_index"


def conf_state_in(source: Backend | ReadView) -> ConfState:
    """The configuration in a backend or a view of one; empty if none was ever applied."""
    raw = json.loads(source.get(Bucket.META, CONF_STATE_KEY) or b"{}")
    return ConfState(
        voters=tuple(raw.get("voters") or ()),
        learners=tuple(raw.get("learners") or ()),
        voters_outgoing=tuple(raw.get("voters_outgoing") or ()),
        learners_next=tuple(raw.get("learners_next") or ()),
        auto_leave=bool(raw.get("auto_leave")),
    )


def conf_state_json(conf_state: ConfState) -> bytes:
    """The record of bucket `meta` that `conf_state_in` reads."""
    raw: dict[str, Any] = {"voters": list(conf_state.voters)}
    for name in ("learners", "voters_outgoing", "learners_next"):
        if members := getattr(conf_state, name):
            raw[name] = list(members)
    raw["auto_leave"] = conf_state.auto_leave
    return json.dumps(raw, separators=(",", ":")).encode()


class StagedSnapshot:
    """A received database, ready to install: staged beside the backend's own, with what is kept in memory."""

    def __init__(self, staged: Staged, loaded: Loaded, lessor: Lessor, auth: AuthStore) -> None:
        self.staged = staged
        self.loaded = loaded
        self.lessor = lessor
        self.auth = auth


def prepare(
    backend: Backend, items: Iterable[tuple[Bucket, bytes, bytes]], snapshot: Snapshot, *, lease_seconds_min: int = 2
) -> StagedSnapshot:
    """Do the slow part of an installation; may run in any thread.

    lease_seconds_min: as in `StateMachine`. Raises StorageFailure (a damaged database, one that is behind its snapshot, a full
    disk).
    """
    staged = backend.stage(_not_behind(items, snapshot.index), index=snapshot.index, term=snapshot.term)
    try:
        view = staged.view()
        try:
            is_ahead = staged.point[0] > snapshot.index
            lessor, auth = _dry_run(view, snapshot, is_ahead=is_ahead, lease_seconds_min=lease_seconds_min)
            loaded = Loaded(view)
            loaded.attach_leases(lessor)
            return StagedSnapshot(staged, loaded, lessor, auth)
        finally:
            view.close()
    except BaseException:
        staged.discard()
        raise


def _not_behind(items: Iterable[tuple[Bucket, bytes, bytes]], index: int) -> Iterator[tuple[Bucket, bytes, bytes]]:
    """The items. Raises StorageFailure if their database lacks entries up to `index`, which nobody would apply to it."""
    for item in items:
        if item[0] is Bucket.META and item[1] == _APPLIED_INDEX_KEY:
            reached = int.from_bytes(item[2], "big")
            if reached < index:
                raise StorageFailure(f"the database of the snapshot at index {index} has only reached index {reached}")
        yield item


class _SnapshotDryRun:
    """A view that accepts writes and drops them."""

    def __init__(self, view: ReadView) -> None:
        self.get = view.get
        self.scan = view.scan

    def put(self, bucket: Bucket, key: bytes, value: bytes) -> None: ...


def _dry_run(view: ReadView, snapshot: Snapshot, *, is_ahead: bool, lease_seconds_min: int) -> tuple[Lessor, AuthStore]:
    """Read everything that `StateMachine.load` will read. A failure now only rejects the snapshot; after the installation it
    would stop this member at every start, with the old state gone. Returns the leases, without their keys, and
    the users and roles.
    """
    stage = cast(Backend, _SnapshotDryRun(view))
    try:
        auth = AuthStore(stage)
        Alarms(stage)
        lessor = Lessor(stage, ttl_seconds_min=lease_seconds_min)
        Membership(stage).merge_v2_json(snapshot.data, learners=conf_state_in(view).learners, is_ahead=is_ahead)
        return lessor, auth
    except StorageFailure:
        raise
    except Exception as error:
        raise StorageFailure(f"cannot read the database of a snapshot: {type(error).__name__}: {error}") from error


class StateMachine:
    """The replicated state of one member, on a backend that holds everything up to `backend.applied_index`."""

    def __init__(
        self,
        backend: Backend,
        *,
        max_learners: int = 1,
        lease_seconds_min: int = 2,
        persist_checkpoints: bool = False,
        tokens: Tokens | None = None,
    ) -> None:
        """lease_seconds_min: the shortest lease that is granted. It and max_learners must be the same on all members.
        persist_checkpoints: keep checkpoints of leases over a restart, also below cluster version 3.6.
        tokens: of this member's callers; None: they cannot log in.
        """
        self.backend = backend
        self.lease_seconds_min = lease_seconds_min
        self._max_learners = max_learners
        self._persist_checkpoints = persist_checkpoints
        self.compaction_listeners: list[
            Callable[[int, int], None]
        ] = []  # called with a compaction's revision and the last one's
        self.apply_joint_change: Callable[[ConfChangeV2, bool], None] | None = None
        """Applies a joint change; True: a received database holds its effect already. None: such a change stops the member.
        The simulator sets it."""
        self.replaced_listeners: list[Callable[[], None]] = []  # called after an installed snapshot has replaced all state
        self.entry_index: Callable[[], int] = _no_index
        """The index of the entry that is being applied. The applier sets it."""
        self.auth = AuthStore(backend, tokens)
        self._auth_requests = AuthRequests(self.auth, self._entry_index, self._token_index)
        self.counts = Counts()  # of the member, not of the state: they continue over an installed snapshot
        self.lease_counts = LeaseCounts()
        self._lease_listener: Listener | None = None
        self.load()
        self.watches = WatchHub(self.store)

    def listen_to_leases(self, listener: Listener) -> None:
        """Call `listener` for changes of the leases of this store and of each that an installed snapshot puts in its place."""
        self._lease_listener = listener
        self.lessor.listen(listener)

    def load(self, prepared: StagedSnapshot | None = None) -> None:
        """Build everything kept in memory from the backend: at start, and after a snapshot has replaced it.

        prepared: what was read beforehand, which are the parts that grow with the data.
        """
        if prepared is None:
            self.lessor = Lessor(self.backend, ttl_seconds_min=self.lease_seconds_min, counts=self.lease_counts)
        else:
            self.lessor = prepared.lessor
            self.lessor.move_to(self.backend, self.lease_counts)
        loaded = None if prepared is None else prepared.loaded
        if self._lease_listener is not None:
            self.lessor.listen(self._lease_listener)
        self.store = Store(self.backend, leases=self.lessor, loaded=loaded, counts=self.counts)
        self.alarms = Alarms(self.backend)
        if prepared is not None:
            self.auth.adopt_rules(prepared.auth)
        self.membership = Membership(self.backend, max_learners=self._max_learners)
        self._choose_handlers()

    def install(self, prepared: StagedSnapshot | None, snapshot: Snapshot) -> tuple[int, int]:
        """Replace the state by the snapshot's, durably, before returning.

        Returns the (index, term) that the database had reached when it was read: its sender may have applied more than the
        snapshot describes, and entries up to there must not be applied again.
        Raises StorageFailure if there is no database for this snapshot.
        """
        if prepared is None:
            raise StorageFailure(f"no database was received for the snapshot at index {snapshot.index}")
        point = self.backend.install(prepared.staged)
        self.store.is_replaced = True
        self.load(prepared)
        self.watches.replace_store(self.store)
        conf_state = conf_state_in(self.backend)
        learners = conf_state.learners if conf_state.voters else snapshot.conf_state.learners
        self.membership.merge_v2_json(snapshot.data, learners=learners, is_ahead=point[0] > snapshot.index)
        storage_version.follow(self.backend, self.membership.cluster_version)
        for listener in self.replaced_listeners:
            listener()
        return point

    def save_conf_state(self, conf_state: ConfState) -> None:
        """Store raft's configuration with the data that it was applied with; a restart needs both."""
        self.backend.put(Bucket.META, CONF_STATE_KEY, conf_state_json(conf_state))

    def apply(self, request: AppliedRequest) -> bytes:
        """Apply one request. Returns the response's encoded body without its header; raises RequestError."""
        return whole_apply(self.handlers[request.field](request))

    # --- the handlers, given the alarms and the auth flag

    def _choose_handlers(self) -> None:
        """Alarms and the auth flag change rarely: apply their rules here, once a change, rather than on every request."""
        handlers = self._plain_handlers()
        if self.auth.is_enabled:
            handlers = Guard(self.auth, self.lessor).guarded(handlers)
        if self.alarms.no_space:
            handlers["put"] = handlers["lease_grant"] = _refuse(errors.NO_SPACE)
            handlers["txn"] = _without_space(handlers["txn"])
        if self.alarms.corrupt:
            for field in ("put", "range", "delete_range", "txn", "compaction", "lease_grant", "lease_revoke"):
                handlers[field] = _refuse(errors.CORRUPT)
        self.handlers = handlers

    def _plain_handlers(self) -> dict[str, Handler]:
        handlers: dict[str, Handler] = {
            "put": self._put,
            "range": self._range,
            "delete_range": self._delete_range,
            "txn": self._txn,
            "compaction": self._compaction,
            "lease_grant": self._lease_grant,
            "lease_revoke": self._lease_revoke,
            "lease_checkpoint": self._lease_checkpoint,
            "alarm": self._alarm,
            "cluster_version_set": self._cluster_version_set,
            "cluster_member_attr_set": self._cluster_member_attr_set,
            "downgrade_info_set": self._downgrade_info_set,
            "downgrade_version_test": _nothing,
            "v2": self._v2,
        }
        handlers |= self._auth_requests.handlers()
        handlers["auth_enable"] = self._auth_flag(handlers["auth_enable"])
        handlers["auth_disable"] = self._auth_flag(handlers["auth_disable"])
        for descriptor in internal_pb2.InternalRaftRequest.DESCRIPTOR.fields:
            handlers.setdefault(descriptor.name, _unsupported(descriptor.name))
        return handlers

    # --- one method a request

    def _put(self, request: AppliedRequest) -> bytes:
        small = request.small
        if isinstance(small, SmallPut):
            self.store.small_put(small)
            return b""
        return self.store.put(request.message)

    def _range(self, request: AppliedRequest) -> bytes:
        return whole_answer(self.store.range(request.message))

    def _delete_range(self, request: AppliedRequest) -> Apply:
        return self.store.delete_range(request.message)

    def _txn(self, request: AppliedRequest) -> bytes | Apply:
        small = request.small
        if isinstance(small, SmallTxn) and (response := self.store.small_txn(small)) is not None:
            return response
        return self.store.txn(request.message)

    def _compaction(self, request: AppliedRequest) -> bytes:
        compaction: rpc_pb2.CompactionRequest = request.message
        previous = self.store.compact_revision
        self.store.compact(compaction.revision)
        for listener in self.compaction_listeners:
            listener(compaction.revision, previous)
        return b""

    def _lease_grant(self, request: AppliedRequest) -> bytes:
        grant: rpc_pb2.LeaseGrantRequest = request.message
        lease = self.lessor.grant(grant.ID, grant.TTL)
        return rpc_pb2.LeaseGrantResponse(ID=lease.id, TTL=lease.ttl_seconds).SerializeToString()

    def _lease_revoke(self, request: AppliedRequest) -> Apply:
        revoke: rpc_pb2.LeaseRevokeRequest = request.message
        return LeaseRevoke(self.lessor, self.store, revoke.ID)

    def _lease_checkpoint(self, request: AppliedRequest) -> bytes:
        checkpoints: rpc_pb2.LeaseCheckpointRequest = request.message
        persist = self._persist_checkpoints or storage_version.persists_checkpoints(self.membership.cluster_version)
        for checkpoint in checkpoints.checkpoints:
            self.lessor.checkpoint(checkpoint.ID, checkpoint.remaining_TTL, persist=persist)
        return b""

    def _alarm(self, request: AppliedRequest) -> bytes:
        alarms = self.alarms.apply(request.message)
        self._choose_handlers()
        return rpc_pb2.AlarmResponse(alarms=alarms).SerializeToString()

    def _auth_flag(self, handler: Handler) -> Handler:
        """The flag decides whether the handlers are guarded."""

        def change(request: AppliedRequest) -> bytes | Apply:
            response = handler(request)
            self._choose_handlers()
            return response

        return change

    def _entry_index(self) -> int:
        return self.entry_index()

    def _token_index(self) -> int:
        """As members of the cluster's version do (auth/tokens.py); of 3.5 only the first releases name the entry itself."""
        version = self.membership.cluster_version
        is_old = version is not None and version.startswith(("3.4.", "3.5."))
        return self.entry_index() - (0 if is_old else 1)

    def _cluster_version_set(self, request: AppliedRequest) -> bytes:
        version: internal_pb2.ClusterVersionSetRequest = request.message
        self.membership.set_cluster_version(version.ver)
        return b""

    def _cluster_member_attr_set(self, request: AppliedRequest) -> bytes:
        published: internal_pb2.ClusterMemberAttrSetRequest = request.message
        attributes = published.member_attributes
        self.membership.set_attributes(published.member_ID, attributes.name, attributes.client_urls)
        return b""

    def _downgrade_info_set(self, request: AppliedRequest) -> bytes:
        downgrade: internal_pb2.DowngradeInfoSetRequest = request.message
        self.membership.set_downgrade(downgrade.enabled, downgrade.ver)
        return b""

    def _v2(self, request: AppliedRequest) -> bytes:
        older: internal_pb2.Request = request.message
        if older.Method == "PUT":
            self.membership.apply_v2(older.Path, older.Val)
        return b""


def _nothing(request: AppliedRequest) -> bytes:
    return b""


def _refuse(error: errors.RequestError) -> Handler:
    def refuse(request: AppliedRequest) -> bytes:
        raise error

    return refuse


def _without_space(txn: Handler) -> Handler:
    def refuse_puts(request: AppliedRequest) -> Apply:
        return TxnWithoutSpace(request, txn)

    return refuse_puts


def _no_index() -> int:
    return 0


def _unsupported(field: str) -> Handler:
    def stop(request: AppliedRequest) -> bytes:
        raise UnsupportedRequest(f"it holds a request that this version does not support ({field})")

    return stop
