"""Checks of requests before they are proposed: their form, without a look at the store.

Pure functions, one per request, each in etcd's order of checks, so that the client gets the first fault. What depends on state
(leases, revisions, whether a key exists) is refused when the entry is applied. The checks of a Txn are in txn_check.py.
Source: etcd server/etcdserver/api/v3rpc/key.go, by its behaviour.
"""

from __future__ import annotations

from tercet.errors import (
    EMPTY_KEY,
    INVALID_SORT_OPTION,
    LEASE_PROVIDED,
    VALUE_PROVIDED,
    Code,
    RequestError,
)
from tercet.proto import rpc_pb2

STREAM_SORTED = RequestError(Code.UNIMPLEMENTED, "RangeStream does not support custom sort orders")
STREAM_FILTERED = RequestError(Code.UNIMPLEMENTED, "RangeStream does not support revision filters")


def check_range(request: rpc_pb2.RangeRequest) -> None:
    """Raises EMPTY_KEY or INVALID_SORT_OPTION."""
    if not request.key:
        raise EMPTY_KEY
    if not (0 <= request.sort_order <= 2 and 0 <= request.sort_target <= 4):
        raise INVALID_SORT_OPTION


def check_range_stream(request: rpc_pb2.RangeRequest) -> None:
    """Raises what `check_range` does, then STREAM_SORTED or STREAM_FILTERED: a stream has all keys, in key order."""
    check_range(request)
    kind = rpc_pb2.RangeRequest
    if request.sort_order != kind.NONE and (request.sort_order, request.sort_target) != (kind.ASCEND, kind.KEY):
        raise STREAM_SORTED
    if request.min_mod_revision or request.max_mod_revision or request.min_create_revision or request.max_create_revision:
        raise STREAM_FILTERED


def check_put(request: rpc_pb2.PutRequest) -> None:
    """Raises EMPTY_KEY, VALUE_PROVIDED or LEASE_PROVIDED."""
    if not request.key:
        raise EMPTY_KEY
    if request.ignore_value and request.value:
        raise VALUE_PROVIDED
    if request.ignore_lease and request.lease:
        raise LEASE_PROVIDED


def check_delete(request: rpc_pb2.DeleteRangeRequest) -> None:
    """Raises EMPTY_KEY."""
    if not request.key:
        raise EMPTY_KEY


def is_read_only(request: rpc_pb2.TxnRequest) -> bool:
    """Whether it needs no entry in the log: both branches hold ranges only. A nested txn of ranges needs one, as in etcd."""
    return all(op.WhichOneof("request") == "request_range" for branch in (request.success, request.failure) for op in branch)
