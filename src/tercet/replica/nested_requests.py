"""Parses requests that are nested deeper than protobuf's library accepts.

protobuf stops at 100 nested messages, some 50 nested txns, while etcd accepts 128 from a client. An entry is one level deeper
than the client's request, so a request that its proposer could parse could be unparsable at apply: every member would stop, at
every start. A committed entry cannot be refused.

This parser goes outermost message first, without recursion, and leaves to protobuf what is not too deep. Unknown fields are
dropped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, Final

from google.protobuf.message import DecodeError, Message

from tercet.proto import rpc_pb2
from tercet.proto.fields import is_repeated

_VARINT, _FIXED64, LENGTH_DELIMITED, _GROUP, _GROUP_END, _FIXED32 = range(6)
_FIXED_BYTES: Final = {_FIXED64: 8, _FIXED32: 4}
_VARINT_BYTES_MAX: Final = 10

# protobuf is tried on small messages, and on large ones every few levels: each failure costs as much as a success.
_SMALL_BYTES: Final = 4096
_LEVELS: Final = 16


def parse_deep(message: Message, data: bytes) -> None:
    """Parse `data` into the empty `message`, at any depth. Raises DecodeError."""
    # First in, first out: the parts of a field that occurs twice are merged in their order.
    waiting: deque[tuple[Any, memoryview, int]] = deque([(message, memoryview(data), 0)])
    while waiting:
        target, view, level = waiting.popleft()
        if level and (len(view) <= _SMALL_BYTES or level % _LEVELS == 0) and _parse_shallow(target, view):
            continue
        fields = target.DESCRIPTOR.fields_by_number
        at = 0
        while at < len(view):
            number, kind, start, end = _field(view, at)
            field = fields.get(number)
            if field is None:
                pass
            elif field.message_type is not None and kind == LENGTH_DELIMITED:
                part = getattr(target, field.name)
                part = part.add() if is_repeated(field) else part
                part.SetInParent()
                waiting.append((part, view[start:end], level + 1))
            else:
                target.MergeFromString(bytes(view[at:end]))
            at = end


def _parse_shallow(target: Message, view: memoryview) -> bool:
    """Let protobuf parse what it can, a hundred times as fast. Returns whether it could."""
    parsed = type(target)()
    try:
        parsed.ParseFromString(bytes(view))
    except DecodeError:
        return False
    discard_unknown(parsed)
    target.MergeFrom(parsed)
    return True


def discard_unknown(message: Message) -> None:
    """What DiscardUnknownFields does, which stops after 64 levels of nested messages, at any depth of nested txns."""
    message.DiscardUnknownFields()
    if not isinstance(message, rpc_pb2.TxnRequest | rpc_pb2.RequestOp):
        return
    level = [message] if isinstance(message, rpc_pb2.TxnRequest) else _txns_in([message])
    depth = 0
    while level:
        depth += 1
        if depth % _LEVELS == 0:
            for txn in level:
                txn.DiscardUnknownFields()
        level = [nested for txn in level for branch in (txn.success, txn.failure) for nested in _txns_in(branch)]


def _txns_in(ops: Iterable[rpc_pb2.RequestOp]) -> list[rpc_pb2.TxnRequest]:
    return [op.request_txn for op in ops if op.HasField("request_txn")]


class FieldCursor:
    """The fields of an encoded message, one after the other, each in constant time.

    number, kind: of the current field; start, content_start, end: where it is. Groups, which no message of etcd has, are
    entered: all that is in one has the kind of a group.
    """

    __slots__ = ("_depth", "_view", "content_start", "end", "kind", "number", "start")

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._depth = 0
        self.number = self.kind = 0
        self.start = self.content_start = self.end = 0

    @property
    def field(self) -> memoryview:
        return self._view[self.start : self.end]

    @property
    def content(self) -> memoryview:
        return self._view[self.content_start : self.end]

    def next(self) -> bool:
        """Go on to the next field; False at the end. Raises DecodeError."""
        self.start = self.end
        if self.start == len(self._view):
            if self._depth:
                raise DecodeError("truncated group")
            return False
        tag, at = _varint(self._view, self.start)
        kind = tag & 7
        self.number, self.kind = tag >> 3, _GROUP if self._depth else kind
        self.content_start = self.end = at
        if kind == _GROUP:
            self._depth += 1
        elif kind == _GROUP_END and self._depth:
            self._depth -= 1
        else:
            self.content_start, self.end = _content(self._view, kind, at)
        return True


def _field(view: memoryview, at: int) -> tuple[int, int, int, int]:
    """The field at `at`: its number, wire type, start of content, and start of the next field."""
    tag, start = _varint(view, at)
    number, kind = tag >> 3, tag & 7
    if kind == _GROUP:
        return number, kind, start, _end_of_group(view, start)
    start, end = _content(view, kind, start)
    return number, kind, start, end


def _content(view: memoryview, kind: int, at: int) -> tuple[int, int]:
    if kind == _VARINT:
        start, end = at, _varint(view, at)[1]
    elif kind == LENGTH_DELIMITED:
        size, start = _varint(view, at)
        end = start + size
    elif kind in _FIXED_BYTES:
        start, end = at, at + _FIXED_BYTES[kind]
    else:
        raise DecodeError(f"invalid wire type {kind}")
    if end > len(view):
        raise DecodeError("truncated field")
    return start, end


def _end_of_group(view: memoryview, at: int) -> int:
    depth = 1
    while depth:
        tag, at = _varint(view, at)
        kind = tag & 7
        if kind == _GROUP:
            depth += 1
        elif kind == _GROUP_END:
            depth -= 1
        else:
            at = _content(view, kind, at)[1]
    return at


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    for position in range(at, min(at + _VARINT_BYTES_MAX, len(view))):
        byte = view[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position + 1
        shift += 7
    raise DecodeError("truncated or oversized varint")
