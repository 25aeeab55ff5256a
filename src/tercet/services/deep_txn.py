"""Txns of clients, small ones in one go, also those nested deeper than protobuf's library parses and encodes.

The library stops at 100 nested messages, some 50 nested txns. etcd accepts as many as --max-txn-ops, 128 by default, since each
level takes one operation. Large txns are parsed in slices (replica/txn_parser.py).
"""

from __future__ import annotations

from google.protobuf.message import DecodeError

from tercet.proto import rpc_pb2
from tercet.replica.nested_requests import discard_unknown, parse_deep
from tercet.replica.txn_parser import check_depth, encode


def parse_txn(body: bytes, ops_max: int) -> rpc_pb2.TxnRequest:
    """Raises DecodeError, and TOO_MANY_OPS for a txn that is nested deeper than `ops_max`."""
    try:
        return rpc_pb2.TxnRequest.FromString(body)
    except DecodeError:
        request = rpc_pb2.TxnRequest()
        parse_deep(request, body)
        check_depth(request, ops_max)
        return request


def encode_txn(request: rpc_pb2.TxnRequest) -> bytes:
    """`canonical_encoding` at any depth that `parse_txn` allows."""
    discard_unknown(request)
    return encode(request)
