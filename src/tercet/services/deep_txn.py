"""Txns that are nested deeper than protobuf's library parses and encodes.

The library stops at 100 nested messages, some 50 nested txns. etcd accepts as many as --max-txn-ops, 128 by default, since each
level takes one operation.
"""

from __future__ import annotations

from typing import Final

from google.protobuf.message import DecodeError, EncodeError, Message

from tercet.errors import TOO_MANY_OPS
from tercet.proto import rpc_pb2
from tercet.proto.wire import paste_field
from tercet.replica.nested_requests import discard_unknown, parse_deep

_LEVELS: Final = 8  # of txns between two attempts of the library: a failed one costs as much as one that succeeds


def parse_txn(body: bytes, ops_max: int) -> rpc_pb2.TxnRequest:
    """Raises DecodeError, and TOO_MANY_OPS for a txn that is nested deeper than `ops_max`."""
    try:
        return rpc_pb2.TxnRequest.FromString(body)
    except DecodeError:
        request = rpc_pb2.TxnRequest()
        parse_deep(request, body)
        _check_depth(request, ops_max)
        return request


def encode_txn(request: rpc_pb2.TxnRequest) -> bytes:
    """`canonical_encoding` at any depth that `parse_txn` allows."""
    try:
        discard_unknown(request)
        return request.SerializeToString()
    except EncodeError:
        return _encode(request, 1)


def _check_depth(request: rpc_pb2.TxnRequest, depth_max: int) -> None:
    level = [request]
    for _ in range(depth_max):
        level = [
            op.request_txn
            for txn in level
            for branch in (txn.success, txn.failure)
            for op in branch
            if op.WhichOneof("request") == "request_txn"
        ]
        if not level:
            return
    raise TOO_MANY_OPS


def _encode(request: rpc_pb2.TxnRequest, level: int) -> bytes:
    if level % _LEVELS == 0:
        try:
            return request.SerializeToString()
        except EncodeError:
            pass  # still too deep
    parts = [paste_field(1, _encode_flat(compare)) for compare in request.compare]
    parts += [paste_field(2, _encode_op(op, level)) for op in request.success]
    parts += [paste_field(3, _encode_op(op, level)) for op in request.failure]
    return b"".join(parts)


def _encode_op(op: rpc_pb2.RequestOp, level: int) -> bytes:
    if op.WhichOneof("request") == "request_txn":
        return paste_field(4, _encode(op.request_txn, level + 1))
    return _encode_flat(op)


def _encode_flat(message: Message) -> bytes:
    return message.SerializeToString()
