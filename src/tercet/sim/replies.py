"""Checks of replies, and of members' stores, against the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from tercet.errors import AUTH_OLD_REVISION, COMPACTED, FUTURE_REVISION, KEY_NOT_FOUND, PERMISSION_DENIED, USER_EMPTY, require
from tercet.mvcc import Store, whole_answer
from tercet.proto import kv_pb2, rpc_pb2
from tercet.sim.auth_model import AuthModel, accesses, leases_of
from tercet.sim.history import HistoryViolation, Operation
from tercet.sim.model import Model
from tercet.sim.requests import message_of
from tercet.storage.interfaces import Backend, Bucket

_REFUSALS: Final = (USER_EMPTY, AUTH_OLD_REVISION, PERMISSION_DENIED)


def check_replies(history: Iterable[Operation], model: Model) -> None:
    """Raises HistoryViolation at the first reply that the model contradicts. The model holds all committed entries."""
    for operation in history:
        if operation.returned is None:
            continue
        if operation.auth is not None:
            _check_permission(operation, model.auth)
        if operation.error is not None:
            _check_error(operation, model)
        elif operation.response is not None:
            expected = _expected(operation, model)
            if expected is not None and _plain(operation.response) != _plain(expected):
                raise HistoryViolation(f"a reply contradicts the log: {operation}\n  expected {expected}")


def _check_permission(operation: Operation, model: AuthModel) -> None:
    """What was answered was permitted in the member's auth state, and what was refused for want of permission was not."""
    request, identity, error = message_of(operation), operation.identity, operation.error
    state = model.known.get(operation.auth or (0, False))
    if state is None:
        raise HistoryViolation(f"an auth state that the log never had: {operation}")
    if model.is_change(request):
        return  # its own reply tells the state after it; each member's state is compared at every index
    expected = state.refusal(identity, accesses(request))
    if expected is not None:
        if error is not expected:
            raise HistoryViolation(f"not refused as the member's users and roles demand: {operation}\n  expected {expected}")
    elif error in _REFUSALS:
        has_changed = error is AUTH_OLD_REVISION and identity.revision != state.revision
        if not has_changed and not leases_of(request):
            raise HistoryViolation(f"refused although the member's users and roles permit it: {operation}")


def _check_error(operation: Operation, model: Model) -> None:
    error, asked = operation.error, getattr(operation.request, "revision", 0)
    if error is FUTURE_REVISION and not operation.is_serializable and asked:
        raise HistoryViolation(f"a revision that a client has seen does not exist: {operation}")
    if error is COMPACTED and asked >= model.compacted:
        raise HistoryViolation(f"a revision is refused that was never compacted: {operation}")
    is_put = isinstance(operation.request, rpc_pb2.PutRequest)
    if error is KEY_NOT_FOUND and is_put and model.get(operation.request.key, operation.revision) is not None:
        raise HistoryViolation(f"a key is not found that exists: {operation}")


def _expected(operation: Operation, model: Model) -> Any:
    request, revision = message_of(operation), operation.revision
    if isinstance(request, rpc_pb2.RangeRequest):
        return model.range(request, revision)
    if operation.took_effect:
        return model.responses.get(revision, "a revision that no entry made")
    if isinstance(request, rpc_pb2.TxnRequest):
        return model.txn_at(request, revision)
    if isinstance(request, rpc_pb2.DeleteRangeRequest):
        return rpc_pb2.DeleteRangeResponse() if not model.range(_range_of(request), revision).count else "something deleted"
    return None


def _range_of(request: rpc_pb2.DeleteRangeRequest) -> rpc_pb2.RangeRequest:
    return rpc_pb2.RangeRequest(key=request.key, range_end=request.range_end)


def _plain(response: Any) -> Any:
    """Without the headers of nested responses, which hold nothing but the revision."""
    if isinstance(response, rpc_pb2.TxnResponse):
        plain = rpc_pb2.TxnResponse()
        plain.CopyFrom(response)
        _clear_headers(plain)
        return plain
    return response


def _clear_headers(response: rpc_pb2.TxnResponse) -> None:
    for op in response.responses:
        for name in ("response_range", "response_put", "response_delete_range", "response_txn"):
            if op.HasField(name):
                getattr(op, name).ClearField("header")
        if op.HasField("response_txn"):
            _clear_headers(op.response_txn)


Live = Callable[[int], list[kv_pb2.KeyValue]]
"""The pairs at a revision, as the log leads to them."""


def check_store(store: Store, backend: Backend, model: Model, live: Live) -> None:
    """A member's store is what the log leads to, now and at every revision that is not compacted. Raises InvariantViolation.

    live: of the model; it is the same for all members.
    """
    require(store.revision == model.revision, "another revision than the log's", store.revision, model.revision)
    require(store.compact_revision == model.compacted, "another compaction than the log's", store.compact_revision)
    store.index.check()
    for revision in range(max(model.compacted, 1), model.revision + 1):
        request = rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0", revision=revision)
        found = rpc_pb2.RangeResponse.FromString(whole_answer(store.range(request)))
        expected = live(revision)
        require(list(found.kvs) == expected, "other data than the log's", revision, found, expected)
    if store.finished_compact_revision == model.compacted:
        _check_records(backend, model)


def _check_records(backend: Backend, model: Model) -> None:
    """After a compaction the backend holds exactly what reads and watchers can still see."""
    found = {
        (int.from_bytes(revision_key[:8], "big"), kv_pb2.KeyValue.FromString(kv).key)
        for revision_key, kv in backend.scan(Bucket.KEY)
    }
    expected = set()
    for key, versions in model.history():
        older = [version for version in versions if version[0] <= model.compacted]
        kept = [version for version in versions if version[0] > model.compacted]
        if older and (older[-1][1] is not None or older[-1][0] == model.compacted):
            kept.append(older[-1])
        expected |= {(revision, key) for revision, _ in kept}
    require(found == expected, "the backend's records are not those of the log", sorted(found ^ expected)[:5])
