"""Comparisons and operations of a transaction, as both clients spell them.

client.transaction(
    compare=[client.transactions.version("a") > 0],
    success=[client.transactions.put("a", "1")],
    failure=[client.transactions.get("a")],
)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tercet.compat import requests
from tercet.proto import rpc_pb2

Encode = Callable[[Any], bytes]

_SYMBOLS = {
    rpc_pb2.Compare.EQUAL: "==",
    rpc_pb2.Compare.NOT_EQUAL: "!=",
    rpc_pb2.Compare.LESS: "<",
    rpc_pb2.Compare.GREATER: ">",
}


def to_bytes(maybe_bytestring: Any) -> bytes:
    """A str in UTF-8; bytes as they are."""
    if isinstance(maybe_bytestring, bytes):
        return maybe_bytestring
    encoded: bytes = maybe_bytestring.encode("utf-8")
    return encoded


def prefix_range_end(prefix: bytes) -> bytes:
    """What the originals return: the last byte below 0xff is incremented, those after it stay.

    For a prefix that ends with 0xff the range has keys without the prefix. The clients' own methods use the right end.
    """
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) + prefix[len(kept) :] if kept else prefix


class BaseCompare:
    """A condition on a key, or on all keys of a range. A comparison operator sets `op` and `value` and returns the object."""

    def __init__(self, key: Any, range_end: Any = None) -> None:
        self.key = key
        self.range_end = range_end
        self.value: Any = None
        self.op: Any = None

    def __eq__(self, other: object) -> BaseCompare:  # type: ignore[override]
        return self._with(rpc_pb2.Compare.EQUAL, other)

    def __ne__(self, other: object) -> BaseCompare:  # type: ignore[override]
        return self._with(rpc_pb2.Compare.NOT_EQUAL, other)

    def __lt__(self, other: object) -> BaseCompare:
        return self._with(rpc_pb2.Compare.LESS, other)

    def __gt__(self, other: object) -> BaseCompare:
        return self._with(rpc_pb2.Compare.GREATER, other)

    __hash__ = None  # type: ignore[assignment]  # as any class with __eq__ and without __hash__

    def __repr__(self) -> str:
        keys = self.key if self.range_end is None else f"[{self.key}, {self.range_end})"
        return f"{type(self)}: {keys} {_SYMBOLS.get(self.op)} '{self.value}'"

    def _with(self, op: Any, value: object) -> BaseCompare:
        self.op = op
        self.value = value
        return self

    def build_message(self) -> rpc_pb2.Compare:
        """The protobuf message. Raises ValueError if nothing was compared yet."""
        if self.op is None:
            raise ValueError("op must be one of =, !=, < or >")
        message = rpc_pb2.Compare(key=to_bytes(self.key), result=self.op)
        if self.range_end is not None:
            message.range_end = to_bytes(self.range_end)
        self.build_compare(message)
        return message

    def build_compare(self, compare: rpc_pb2.Compare) -> None:
        """Set what is compared, and with what."""
        raise NotImplementedError


class Value(BaseCompare):
    """The value."""

    def build_compare(self, compare: rpc_pb2.Compare) -> None:
        compare.target = rpc_pb2.Compare.VALUE
        compare.value = to_bytes(self.value)


class Version(BaseCompare):
    """The number of puts since the key was created; 0: it does not exist."""

    def build_compare(self, compare: rpc_pb2.Compare) -> None:
        compare.target = rpc_pb2.Compare.VERSION
        compare.version = int(self.value)


class Create(BaseCompare):
    """The revision that created the key; 0: it does not exist."""

    def build_compare(self, compare: rpc_pb2.Compare) -> None:
        compare.target = rpc_pb2.Compare.CREATE
        compare.create_revision = int(self.value)


class Mod(BaseCompare):
    """The revision of the last put."""

    def build_compare(self, compare: rpc_pb2.Compare) -> None:
        compare.target = rpc_pb2.Compare.MOD
        compare.mod_revision = int(self.value)


class Put:
    """Store a value."""

    def __init__(self, key: Any, value: Any, lease: Any = None, prev_kv: bool = False) -> None:
        self.key = key
        self.value = value
        self.lease = lease
        self.prev_kv = prev_kv


class Get:
    """Read a key or a range."""

    def __init__(self, key: Any, range_end: Any = None) -> None:
        self.key = key
        self.range_end = range_end


class Delete:
    """Delete a key or a range."""

    def __init__(self, key: Any, range_end: Any = None, prev_kv: bool = False) -> None:
        self.key = key
        self.range_end = range_end
        self.prev_kv = prev_kv


class Txn:
    """A nested transaction."""

    def __init__(self, compare: Any, success: Any = None, failure: Any = None) -> None:
        self.compare = compare
        self.success = success
        self.failure = failure


class Transactions:
    """The classes above, under the names that callers use."""

    def __init__(self) -> None:
        self.value = Value
        self.version = Version
        self.create = Create
        self.mod = Mod
        self.put = Put
        self.get = Get
        self.delete = Delete
        self.txn = Txn


def txn_request(compare: Iterable[BaseCompare], success: Any, failure: Any, encode: Encode) -> rpc_pb2.TxnRequest:
    """encode: for keys and values of operations."""
    return rpc_pb2.TxnRequest(
        compare=[each.build_message() for each in compare],
        success=request_ops(success, encode),
        failure=request_ops(failure, encode),
    )


def request_ops(ops: Iterable[Any], encode: Encode) -> list[rpc_pb2.RequestOp]:
    """Raises Exception for an object that is no operation."""
    return [_request_op(op, encode) for op in ops]


def _request_op(op: Any, encode: Encode) -> rpc_pb2.RequestOp:
    if isinstance(op, Put):
        put = requests.put_request(encode(op.key), encode(op.value), op.lease, op.prev_kv)
        return rpc_pb2.RequestOp(request_put=put)
    end = None if getattr(op, "range_end", None) is None else encode(op.range_end)
    if isinstance(op, Get):
        return rpc_pb2.RequestOp(request_range=requests.range_request(encode(op.key), end))
    if isinstance(op, Delete):
        return rpc_pb2.RequestOp(request_delete_range=requests.delete_request(encode(op.key), end, op.prev_kv))
    if isinstance(op, Txn):
        return rpc_pb2.RequestOp(request_txn=txn_request(op.compare, op.success, op.failure, encode))
    raise Exception(f"Unknown request class {type(op)}")


def txn_results(response: rpc_pb2.TxnResponse, with_metadata: Callable[[Any, Any], Any]) -> tuple[bool, list[Any]]:
    """What `transaction` returns: for a range a list of (value, metadata), for any other operation the ResponseOp."""
    results: list[Any] = []
    for answer in response.responses:
        if answer.WhichOneof("response") == "response_range":
            results.append([(kv.value, with_metadata(kv, response.header)) for kv in answer.response_range.kvs])
        else:
            results.append(answer)
    return response.succeeded, results
