"""Parses a large Txn in slices, and encodes it canonically.

A megabyte holds a hundred thousand nested operations, which protobuf parses in 30 ms; to rid them of unknown fields takes ten
times as long. This parser walks the fields and gives them to protobuf in chunks of a few KiB; a field that is larger is opened,
if it is a nested txn. The order of the chunks is kept, and so are protobuf's rules for repeated occurrences: the parts of a
nested txn are merged, and the last kind of operation in a RequestOp wins. Unknown fields, groups among them, are dropped.

The encoding is what every etcd member parses to the same message; fields are in the client's order rather than protobuf's.
"""

from __future__ import annotations

from typing import Final

from google.protobuf.message import DecodeError, EncodeError

from tercet.errors import TOO_MANY_OPS
from tercet.mvcc.work import OPERATION, VISIT, Budget, Steps
from tercet.proto import rpc_pb2
from tercet.proto.wire import paste_field, varint
from tercet.replica.nested_requests import LENGTH_DELIMITED, FieldCursor, discard_unknown, parse_deep

_CHUNK_BYTES: Final = 4096
_CHUNK_SHIFT: Final = 3  # one unit of work for each 8 bytes, which an operation needs at least
_BRANCHES: Final = (2, 3)  # numbers in TxnRequest: success, failure
_NESTED_TXN: Final = 4  # its number in RequestOp
_KINDS: Final = (1, 2, 3, _NESTED_TXN)
_LEVELS: Final = 8  # of txns between two attempts of protobuf to encode; a failed one costs as much as one that succeeds


class TxnParser(Steps):
    """`request` is complete, and `parts` its encoding in pieces, once `step` has returned False.

    depth_max: a txn that is nested deeper is refused; 0: no limit, and no encoding, for an entry of the log.
    """

    __slots__ = ("_depth_max", "_frames", "_ops", "parts", "request")

    def __init__(self, body: bytes | memoryview, *, depth_max: int = 0) -> None:
        self.request = rpc_pb2.TxnRequest()
        self.parts: list[bytes] = []
        self._depth_max = depth_max
        self._frames = [_Txn(self.request, 0, memoryview(body), depth_max)]
        self._ops: list[_Operation] = []  # the one being read, if any

    def step(self, budget: Budget) -> bool:
        """See `work.Steps`. Raises DecodeError, and TOO_MANY_OPS for a txn that is nested deeper than allowed."""
        while budget.left > 0:
            frame = self._frames[-1]
            if self._ops:
                if self._ops[-1].step(budget):
                    self._end_operation(frame, self._ops.pop(), budget)
                continue
            operation = frame.step(budget)
            if operation is not None:
                self._ops.append(operation)
            elif frame.is_complete:
                self._frames.pop()
                if not self._frames:
                    self.parts = frame.parts
                    return False
                self._frames[-1].add_nested(frame)
        return True

    def _end_operation(self, frame: _Txn, operation: _Operation, budget: Budget) -> None:
        """The fields of a large operation are known: parse it, or go on with its txn."""
        if operation.kind != _NESTED_TXN:
            frame.parse(paste_field(operation.branch, b"".join(operation.fields)), budget)
            return
        depth_left = 0
        if self._depth_max:
            depth_left = self._depth_max - len(self._frames)
            if depth_left <= 0:
                raise TOO_MANY_OPS
        branch = frame.target.success if operation.branch == _BRANCHES[0] else frame.target.failure
        nested = branch.add().request_txn
        nested.SetInParent()
        contents = operation.contents
        view = contents[0] if len(contents) == 1 else memoryview(b"".join(contents))
        self._frames.append(_Txn(nested, operation.branch, view, depth_left))


class _Txn:
    """A txn that is being parsed. branch: the field of its parent that it stands in; depth_max: as in `TxnParser`."""

    __slots__ = ("_cursor", "_depth_max", "_pending", "_pending_bytes", "branch", "is_complete", "parts", "size", "target")

    def __init__(self, target: rpc_pb2.TxnRequest, branch: int, view: memoryview, depth_max: int) -> None:
        self.target = target
        self._depth_max = depth_max
        self.branch = branch
        self.parts: list[bytes] = []
        self.size = 0
        self.is_complete = False
        self._cursor = FieldCursor(view)
        self._pending: list[memoryview] = []  # fields of the next chunk
        self._pending_bytes = 0

    def step(self, budget: Budget) -> _Operation | None:
        """Parse up to the budget, or up to a large operation, which is returned."""
        cursor = self._cursor
        while budget.left > 0:
            budget.left -= VISIT
            if not cursor.next():
                self._parse_pending(budget)
                self.is_complete = True
                return None
            if cursor.kind != LENGTH_DELIMITED:
                continue  # unknown
            if cursor.number in _BRANCHES and cursor.end - cursor.start > _CHUNK_BYTES:
                self._parse_pending(budget)
                return _Operation(cursor.number, cursor.content)
            self._pending.append(cursor.field)
            self._pending_bytes += cursor.end - cursor.start
            if self._pending_bytes >= _CHUNK_BYTES:
                self._parse_pending(budget)
        return None

    def _parse_pending(self, budget: Budget) -> None:
        pending, self._pending, self._pending_bytes = self._pending, [], 0
        if pending:
            self.parse(b"".join(pending), budget)

    def parse(self, chunk: bytes, budget: Budget) -> None:
        """Parse whole fields. Raises DecodeError."""
        budget.left -= OPERATION + (min(len(chunk), 2 * _CHUNK_BYTES) >> _CHUNK_SHIFT)
        try:
            part = rpc_pb2.TxnRequest.FromString(chunk)
            discard_unknown(part)
            encoded = part.SerializeToString()
        except (DecodeError, EncodeError):  # too deep for protobuf, or malformed
            self._parse_deep(chunk)
        else:
            self._add(encoded)
            self.target.MergeFromString(encoded)

    def _parse_deep(self, chunk: bytes) -> None:
        if self._depth_max:
            part = rpc_pb2.TxnRequest()
            parse_deep(part, chunk)
            check_depth(part, self._depth_max)
            self._add(encode(part))
        parse_deep(self.target, chunk)

    def _add(self, encoded: bytes) -> None:
        self.parts.append(encoded)
        self.size += len(encoded)

    def add_nested(self, nested: _Txn) -> None:
        """A txn within this one is complete."""
        inner = bytes((_NESTED_TXN << 3 | LENGTH_DELIMITED,)) + varint(nested.size)
        self._add(bytes((nested.branch << 3 | LENGTH_DELIMITED,)) + varint(len(inner) + nested.size) + inner)
        self.parts += nested.parts
        self.size += nested.size


class _Operation:
    """A RequestOp that is being read, and the field of its txn that it stands in.

    kind: its last field, which wins; fields, contents: the occurrences of that kind since the last one of another.
    """

    __slots__ = ("_cursor", "branch", "contents", "fields", "kind")

    def __init__(self, branch: int, view: memoryview) -> None:
        self.branch = branch
        self.kind = 0
        self.fields: list[memoryview] = []
        self.contents: list[memoryview] = []
        self._cursor = FieldCursor(view)

    def step(self, budget: Budget) -> bool:
        """Read up to the budget. Returns whether it is complete. Raises DecodeError."""
        cursor = self._cursor
        while budget.left > 0:
            budget.left -= VISIT
            if not cursor.next():
                return True
            if cursor.kind != LENGTH_DELIMITED or cursor.number not in _KINDS:
                continue  # unknown
            if cursor.number != self.kind:
                self.kind = cursor.number
                self.fields, self.contents = [], []
            self.fields.append(cursor.field)
            self.contents.append(cursor.content)
        return False


def check_depth(request: rpc_pb2.TxnRequest, depth_max: int) -> None:
    """Raises TOO_MANY_OPS for a txn that is nested deeper than `depth_max`."""
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


def encode(request: rpc_pb2.TxnRequest) -> bytes:
    """Encode in one go, at any depth: protobuf stops at 100 nested messages, some 50 nested txns."""
    try:
        return request.SerializeToString()
    except EncodeError:
        return _encode(request, 1)


def _encode(request: rpc_pb2.TxnRequest, level: int) -> bytes:
    if level % _LEVELS == 0:
        try:
            return request.SerializeToString()
        except EncodeError:
            pass  # still too deep
    parts = [paste_field(1, compare.SerializeToString()) for compare in request.compare]
    parts += [paste_field(2, _encode_op(op, level)) for op in request.success]
    parts += [paste_field(3, _encode_op(op, level)) for op in request.failure]
    return b"".join(parts)


def _encode_op(op: rpc_pb2.RequestOp, level: int) -> bytes:
    if op.WhichOneof("request") == "request_txn":
        return paste_field(_NESTED_TXN, _encode(op.request_txn, level + 1))
    return op.SerializeToString()
