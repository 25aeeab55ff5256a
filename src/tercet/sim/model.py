"""Reference store: what the committed entries must lead to, computed in the plainest way.

It keeps every revision of every key in one list each, and applies the committed requests one by one, with code of its own: no
index, no backend, no compaction of anything. Every reply to a client and every member's revision is compared with it.

Users and roles are in auth_model.py. Requests that the simulator never sends (logins, ...) are not implemented and raise
InvariantViolation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from tercet.auth import Identity
from tercet.errors import InvariantViolation
from tercet.proto import internal_pb2, kv_pb2, rpc_pb2
from tercet.raft.types import Entry, EntryType
from tercet.sim.auth_model import AuthModel

_Compare = rpc_pb2.Compare
_REFUSED_IF_CORRUPT = frozenset(("put", "range", "delete_range", "txn", "compaction", "lease_grant", "lease_revoke"))


class Model:
    """The state after `applied_index` entries, and after each entry before."""

    def __init__(self) -> None:
        self.applied_index = 0
        self.revision = 1
        self.compacted = -1
        self.revision_at = [1]  # by applied index
        self.responses: dict[int, Any] = {}  # by revision: the response of the request that made it
        self._versions: dict[bytes, list[tuple[int, kv_pb2.KeyValue | None]]] = {}
        self.leases: dict[int, set[bytes]] = {}  # their keys
        self._alarms: set[int] = set()  # NOSPACE, by member
        self._corrupt: set[int] = set()  # CORRUPT, by member
        self._writing = False
        self.auth = AuthModel()

    # --- entries

    def apply(self, entry: Entry) -> None:
        """Apply the next committed entry."""
        self.applied_index += 1
        if entry.index != self.applied_index:
            raise InvariantViolation(f"the model expects entry {self.applied_index}, not {entry.index}")
        if entry.type == EntryType.NORMAL and entry.data:
            request = internal_pb2.InternalRaftRequest.FromString(entry.data)
            identity = Identity(request.header.username, request.header.auth_revision)
            for field, message in request.ListFields():
                if field.name != "header":
                    self._apply(field.name, message, identity)
        self.revision_at.append(self.revision)
        self.auth.entry_applied()

    def _apply(self, field: str, message: Any, identity: Identity) -> None:
        is_change = self.auth.is_change(message)
        handler: Callable[[Any], Any] | None = self.auth.apply if is_change else getattr(self, f"_{field}", None)
        if handler is None:
            raise InvariantViolation(f"the model has no request {field}")
        if self.auth.refusal(message, identity, lambda lease: self.leases.get(lease, ())) is not None:
            return
        response = None if self._corrupt and field in _REFUSED_IF_CORRUPT else handler(message)
        if self._writing:
            self._writing = False
            self.revision += 1
            self.responses[self.revision] = response

    def _put(self, request: rpc_pb2.PutRequest) -> rpc_pb2.PutResponse | None:
        return None if self._refuses_put(request) else self._do_put(request)

    def _delete_range(self, request: rpc_pb2.DeleteRangeRequest) -> rpc_pb2.DeleteRangeResponse:
        found = self._live(request.key, request.range_end, self._now)
        for kv in found:
            self._write(kv.key, None)
        return rpc_pb2.DeleteRangeResponse(deleted=len(found), prev_kvs=found if request.prev_kv else [])

    def _txn(self, request: rpc_pb2.TxnRequest) -> rpc_pb2.TxnResponse | None:
        if self._alarms and any(op.HasField("request_put") for op in _operations(request)):
            return None
        # All comparisons, and the conditions of all puts, are judged by the state before the whole transaction.
        puts = _puts(request, lambda one: self._branch(one, self.revision)[1])
        return None if any(map(self._refuses_put, puts)) else self._run(request)

    def _run(self, request: rpc_pb2.TxnRequest) -> rpc_pb2.TxnResponse:
        succeeded, branch = self._branch(request, self.revision)
        return rpc_pb2.TxnResponse(succeeded=succeeded, responses=[self._operation(op) for op in branch])

    def _branch(self, request: rpc_pb2.TxnRequest, revision: int) -> tuple[bool, Sequence[rpc_pb2.RequestOp]]:
        """Whether the comparisons hold in the state at `revision`, and the operations to run then."""
        holds = all(self._holds(compare, revision) for compare in request.compare)
        return holds, request.success if holds else request.failure

    def _operation(self, op: rpc_pb2.RequestOp) -> rpc_pb2.ResponseOp:
        if op.HasField("request_txn"):
            return rpc_pb2.ResponseOp(response_txn=self._run(op.request_txn))
        if op.HasField("request_put"):
            return rpc_pb2.ResponseOp(response_put=self._do_put(op.request_put))
        if op.HasField("request_delete_range"):
            return rpc_pb2.ResponseOp(response_delete_range=self._delete_range(op.request_delete_range))
        return rpc_pb2.ResponseOp(response_range=self.range(op.request_range, self._now))

    def _compaction(self, request: rpc_pb2.CompactionRequest) -> None:
        if self.compacted < request.revision <= self.revision:
            self.compacted = request.revision

    def _lease_grant(self, request: rpc_pb2.LeaseGrantRequest) -> None:
        if not self._alarms:
            self.leases.setdefault(request.ID, set())

    def _lease_revoke(self, request: rpc_pb2.LeaseRevokeRequest) -> None:
        for key in self.leases.pop(request.ID, ()):
            self._write(key, None, detach=False)

    def _lease_checkpoint(self, request: rpc_pb2.LeaseCheckpointRequest) -> None:
        """Changes when leases end, which only the log tells."""

    def _alarm(self, request: rpc_pb2.AlarmRequest) -> None:
        alarms = self._corrupt if request.alarm == rpc_pb2.CORRUPT else self._alarms
        if request.action == rpc_pb2.AlarmRequest.ACTIVATE:
            alarms.add(request.memberID)
        elif request.action == rpc_pb2.AlarmRequest.DEACTIVATE:
            alarms.discard(request.memberID)

    # --- writes

    @property
    def _now(self) -> int:
        return self.revision + 1 if self._writing else self.revision

    def _refuses_put(self, request: rpc_pb2.PutRequest) -> bool:
        keeps = request.ignore_value or request.ignore_lease
        return bool(
            self._alarms
            or (request.lease and request.lease not in self.leases)
            or (keeps and self.get(request.key, self.revision) is None)
        )

    def _do_put(self, request: rpc_pb2.PutRequest) -> rpc_pb2.PutResponse:
        before = self.get(request.key, self._now)
        kv = kv_pb2.KeyValue(key=request.key, value=request.value, lease=request.lease, mod_revision=self.revision + 1)
        if before is not None and request.ignore_value:
            kv.value = before.value
        if before is not None and request.ignore_lease:
            kv.lease = before.lease
        kv.version = before.version + 1 if before else 1
        kv.create_revision = before.create_revision if before else self.revision + 1
        self._write(request.key, kv)
        return rpc_pb2.PutResponse(prev_kv=before if request.prev_kv else None)

    def _write(self, key: bytes, kv: kv_pb2.KeyValue | None, *, detach: bool = True) -> None:
        if detach:
            for keys in self.leases.values():
                keys.discard(key)
        if kv is not None and kv.lease:
            self.leases[kv.lease].add(key)
        self._writing = True
        self._versions.setdefault(key, []).append((self.revision + 1, kv))

    # --- reads

    def get(self, key: bytes, revision: int) -> kv_pb2.KeyValue | None:
        """The pair of `key` as of `revision`."""
        for mod_revision, kv in reversed(self._versions.get(key, [])):
            if mod_revision <= revision:
                return kv
        return None

    def range(self, request: rpc_pb2.RangeRequest, revision: int) -> rpc_pb2.RangeResponse:
        """The response, without its header, to a range at `revision` (key order, no filters)."""
        revision = request.revision or revision
        found = self._live(request.key, request.range_end, revision)
        response = rpc_pb2.RangeResponse(count=len(found))
        if request.count_only:
            return response
        if request.limit and len(found) > request.limit:
            found = found[: request.limit]
            response.more = True
        response.kvs.extend(found)
        if request.keys_only:
            for kv in response.kvs:
                kv.value, kv.lease = b"", 0  # etcd 3.7 answers from its index, which has no leases
        return response

    def txn_at(self, request: rpc_pb2.TxnRequest, revision: int) -> rpc_pb2.TxnResponse:
        """The response to a transaction of ranges, or one that changed nothing, at `revision`."""
        succeeded, branch = self._branch(request, revision)
        response = rpc_pb2.TxnResponse(succeeded=succeeded)
        for op in branch:
            if op.HasField("request_range"):
                response.responses.add(response_range=self.range(op.request_range, revision))
            elif op.HasField("request_txn"):
                response.responses.add(response_txn=self.txn_at(op.request_txn, revision))
            elif op.HasField("request_delete_range"):
                found = self._live(op.request_delete_range.key, op.request_delete_range.range_end, revision)
                response.responses.add(response_delete_range=rpc_pb2.DeleteRangeResponse(deleted=len(found)))
            else:
                raise InvariantViolation(f"a put made no revision: {request} at {revision}")
        return response

    def live(self, revision: int) -> list[kv_pb2.KeyValue]:
        """All pairs as of `revision`, by key."""
        return self._live(b"\0", b"\0", revision)

    def history(self) -> Iterable[tuple[bytes, list[tuple[int, kv_pb2.KeyValue | None]]]]:
        """(key, [(revision, pair or None for a deletion)]) of every key ever written."""
        return sorted(self._versions.items())

    def _live(self, key: bytes, range_end: bytes, revision: int) -> list[kv_pb2.KeyValue]:
        keys = [key] if not range_end else [one for one in sorted(self._versions) if _is_between(one, key, range_end)]
        return [kv for kv in (self.get(one, revision) for one in keys) if kv is not None]

    def _holds(self, compare: rpc_pb2.Compare, revision: int) -> bool:
        found = self._live(compare.key, compare.range_end, revision)
        if not found:  # as an absent key: no value, so nothing holds of it, and zeros
            return compare.target != _Compare.VALUE and _matches(compare, kv_pb2.KeyValue())
        return all(_matches(compare, kv) for kv in found)


def _operations(request: rpc_pb2.TxnRequest) -> Iterator[rpc_pb2.RequestOp]:
    """Those of both branches, and of all transactions within."""
    for op in (*request.success, *request.failure):
        yield op
        if op.HasField("request_txn"):
            yield from _operations(op.request_txn)


def _puts(
    request: rpc_pb2.TxnRequest, branch: Callable[[rpc_pb2.TxnRequest], Iterable[rpc_pb2.RequestOp]]
) -> Iterator[rpc_pb2.PutRequest]:
    """Those of the branches that are taken, also within."""
    for op in branch(request):
        if op.HasField("request_put"):
            yield op.request_put
        elif op.HasField("request_txn"):
            yield from _puts(op.request_txn, branch)


def _is_between(key: bytes, start: bytes, end: bytes) -> bool:
    return key >= start and (end == b"\0" or key < end)


def _matches(compare: rpc_pb2.Compare, kv: kv_pb2.KeyValue) -> bool:
    found: Any
    expected: Any
    found, expected = {
        _Compare.VERSION: (kv.version, compare.version),
        _Compare.CREATE: (kv.create_revision, compare.create_revision),
        _Compare.MOD: (kv.mod_revision, compare.mod_revision),
        _Compare.VALUE: (kv.value, compare.value),
        _Compare.LEASE: (kv.lease, compare.lease),
    }[compare.target]
    results: dict[int, bool] = {
        _Compare.EQUAL: found == expected,
        _Compare.NOT_EQUAL: found != expected,
        _Compare.GREATER: found > expected,
        _Compare.LESS: found < expected,
    }
    return results[compare.result]
