"""A reference model of the store, which keeps a full copy of the keyspace per revision. Where 3.5.1 differs, it follows 3.7."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

from tercet.errors import (
    COMPACTED,
    FUTURE_REVISION,
    KEY_NOT_FOUND,
    LEASE_EXISTS,
    LEASE_NOT_FOUND,
    TOO_LARGE_LEASE_TTL,
    RequestError,
)
from tercet.mvcc import check_delete, check_put, check_range, check_txn
from tercet.proto import kv_pb2, rpc_pb2

State = dict[bytes, kv_pb2.KeyValue]
_Range, _Compare = rpc_pb2.RangeRequest, rpc_pb2.Compare


class Model:
    def __init__(self) -> None:
        self.states: list[State] = [{}, {}]  # by revision; the first write creates revision 2
        self.compacted = -1
        self.leases: set[int] = set()
        self.draft: State | None = None

    @property
    def revision(self) -> int:
        return len(self.states) - 1

    @property
    def now(self) -> State:
        return self.states[-1] if self.draft is None else self.draft

    @property
    def txn_revision(self) -> int:
        return self.revision + (self.draft is not None)

    def call(self, request: Message) -> Any:
        try:
            answer = getattr(self, type(request).__name__)(request)
        except RequestError as error:
            return int(error.code), error.message
        if self.draft is not None:
            self.states.append(self.draft)
            self.draft = None
        answer.header.CopyFrom(rpc_pb2.ResponseHeader(revision=self.revision))
        return answer

    def PutRequest(self, request: rpc_pb2.PutRequest) -> Message:  # noqa: N802
        check_put(request)
        self._refuse_put(request)
        return self._put(request)

    def RangeRequest(self, request: rpc_pb2.RangeRequest) -> Message:  # noqa: N802
        check_range(request)
        return self._range(request)

    def DeleteRangeRequest(self, request: rpc_pb2.DeleteRangeRequest) -> Message:  # noqa: N802
        check_delete(request)
        return self._delete(request)

    def CompactionRequest(self, request: rpc_pb2.CompactionRequest) -> Message:  # noqa: N802
        if request.revision <= self.compacted:
            raise COMPACTED
        if request.revision > self.revision:
            raise FUTURE_REVISION
        self.compacted = request.revision
        return rpc_pb2.CompactionResponse()

    def LeaseGrantRequest(self, request: rpc_pb2.LeaseGrantRequest) -> Message:  # noqa: N802
        if request.TTL > 9_000_000_000:
            raise TOO_LARGE_LEASE_TTL
        if request.ID in self.leases:
            raise LEASE_EXISTS
        self.leases.add(request.ID)
        return rpc_pb2.LeaseGrantResponse(ID=request.ID, TTL=request.TTL)

    def LeaseRevokeRequest(self, request: rpc_pb2.LeaseRevokeRequest) -> Message:  # noqa: N802
        if request.ID not in self.leases:
            raise LEASE_NOT_FOUND
        self.leases.remove(request.ID)
        for key in [key for key, kv in self.now.items() if kv.lease == request.ID]:
            del self._change()[key]
        return rpc_pb2.LeaseRevokeResponse()

    def TxnRequest(self, request: rpc_pb2.TxnRequest) -> Message:  # noqa: N802
        check_txn(request, 128)
        before = self.now
        self._refuse_txn(request, before)
        return self._txn(request, before)

    def _change(self) -> State:
        if self.draft is None:
            self.draft = {key: _copy(kv) for key, kv in self.now.items()}
        return self.draft

    def _refuse_put(self, put: rpc_pb2.PutRequest) -> None:
        if put.lease and put.lease not in self.leases:
            raise LEASE_NOT_FOUND
        if (put.ignore_value or put.ignore_lease) and put.key not in self.now:
            raise KEY_NOT_FOUND

    def _put(self, put: rpc_pb2.PutRequest) -> rpc_pb2.PutResponse:
        prior = self.now.get(put.key)
        answer = rpc_pb2.PutResponse(prev_kv=_copy(prior) if prior is not None and put.prev_kv else None)
        state = self._change()
        kv = state.setdefault(put.key, kv_pb2.KeyValue(key=put.key, create_revision=self.txn_revision))
        kv.mod_revision = self.txn_revision
        kv.version += 1
        kv.value = kv.value if put.ignore_value else put.value
        kv.lease = kv.lease if put.ignore_lease else put.lease
        return answer

    def _delete(self, delete: rpc_pb2.DeleteRangeRequest) -> rpc_pb2.DeleteRangeResponse:
        found = _select(self.now, delete.key, delete.range_end)
        for kv in found:
            del self._change()[kv.key]
        return rpc_pb2.DeleteRangeResponse(deleted=len(found), prev_kvs=found if delete.prev_kv else [])

    def _range(self, request: rpc_pb2.RangeRequest) -> rpc_pb2.RangeResponse:
        if request.revision > self.txn_revision:
            raise FUTURE_REVISION
        if 0 < request.revision < self.compacted:
            raise COMPACTED
        state = self.now if request.revision in (self.txn_revision,) or request.revision <= 0 else self.states[request.revision]
        found = _select(state, request.key, request.range_end)
        answer = rpc_pb2.RangeResponse(count=len(found))
        if request.count_only:
            return answer
        bounds = (request.min_mod_revision, request.max_mod_revision, request.min_create_revision, request.max_create_revision)
        if request.limit > 0 and request.sort_order == _Range.NONE and not any(bounds):
            found = found[: request.limit + 1]
        found = [
            kv
            for kv in found
            if (not bounds[0] or kv.mod_revision >= bounds[0])
            and (not bounds[1] or kv.mod_revision <= bounds[1])
            and (not bounds[2] or kv.create_revision >= bounds[2])
            and (not bounds[3] or kv.create_revision <= bounds[3])
        ]
        field = ["key", "version", "create_revision", "mod_revision", "value"][request.sort_target]
        found.sort(key=lambda kv: getattr(kv, field), reverse=request.sort_order == _Range.DESCEND)
        if request.limit > 0:
            answer.more = len(found) > request.limit
            found = found[: request.limit]
        if request.keys_only:
            found = [_copy(kv) for kv in found]
            for kv in found:
                kv.value = b""
                kv.lease = kv.lease if request.sort_target == _Range.VALUE else 0
        answer.kvs.extend(found)
        return answer

    def _branch(self, request: rpc_pb2.TxnRequest, before: State) -> tuple[bool, Any]:
        succeeded = all(_holds(before, compare) for compare in request.compare)
        return succeeded, request.success if succeeded else request.failure

    def _refuse_txn(self, request: rpc_pb2.TxnRequest, before: State) -> None:
        for op in self._branch(request, before)[1]:
            if op.HasField("request_txn"):
                self._refuse_txn(op.request_txn, before)
            elif op.HasField("request_put"):
                self._refuse_put(op.request_put)
            elif op.HasField("request_range") and op.request_range.revision:
                if op.request_range.revision > self.revision:
                    raise FUTURE_REVISION
                if op.request_range.revision < self.compacted:
                    raise COMPACTED

    def _txn(self, request: rpc_pb2.TxnRequest, before: State) -> rpc_pb2.TxnResponse:
        succeeded, branch = self._branch(request, before)
        answer = rpc_pb2.TxnResponse(succeeded=succeeded, header=rpc_pb2.ResponseHeader())
        for op in branch:
            kind = op.WhichOneof("request")
            response = getattr(answer.responses.add(), kind.replace("request", "response"))
            if kind == "request_txn":
                response.CopyFrom(self._txn(op.request_txn, before))
                continue
            run = {"request_put": self._put, "request_range": self._range, "request_delete_range": self._delete}[kind]
            response.CopyFrom(run(getattr(op, kind)))
            response.header.revision = self.txn_revision
        return answer


def _copy(kv: kv_pb2.KeyValue) -> kv_pb2.KeyValue:
    copy = kv_pb2.KeyValue()
    copy.CopyFrom(kv)
    return copy


def _select(state: State, key: bytes, range_end: bytes) -> list[kv_pb2.KeyValue]:
    if not range_end:
        return [state[key]] if key in state else []
    return [state[found] for found in sorted(state) if key <= found and (range_end == b"\0" or found < range_end)]


def _holds(state: State, compare: rpc_pb2.Compare) -> bool:
    found = _select(state, compare.key, compare.range_end)
    if not found:
        return compare.target != _Compare.VALUE and _satisfies(compare, kv_pb2.KeyValue())
    return all(_satisfies(compare, kv) for kv in found)


def _satisfies(compare: rpc_pb2.Compare, kv: kv_pb2.KeyValue) -> bool:
    names = ["version", "create_revision", "mod_revision", "value", "lease"]
    stored, given = 0, 0
    if compare.target < len(names):
        stored, given = getattr(kv, names[compare.target]), getattr(compare, names[compare.target])
    return {0: stored == given, 1: stored > given, 2: stored < given, 3: stored != given}.get(compare.result, True)
