"""The data of a log entry: etcd's InternalRaftRequest, with a request id that is never reused.

Fast code (bench put): requests are pasted, not built. A client's encoded PutRequest is field 4 of the entry; only the tag, the
length and the header with the request id are added. tests/replica/test_requests.py compares with protobuf.

Must never emit a form that a peer cannot parse: an unknown entry stops every member that reads it.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.message import DecodeError, Message

from tercet.auth import NOBODY, Identity
from tercet.mvcc import SmallRequest, read_small_put, read_small_txn
from tercet.proto import internal_pb2, rpc_pb2
from tercet.proto.wire import MORE, encode_varint, varint
from tercet.replica.nested_requests import LENGTH_DELIMITED, FieldCursor, parse_deep
from tercet.replica.unsupported import UnsupportedRequest

WHOLE_BYTES_MAX: Final = 16 << 10
"""A smaller request is parsed in one go: in a millisecond or two, whatever it holds."""

_HEADER_NUMBER: Final = 100
_TXN_NUMBER: Final[int] = internal_pb2.InternalRaftRequest.DESCRIPTOR.fields_by_name["txn"].number
_FIELDS_MAX: Final = 4  # an entry has two: its request and its header
_ID_TAG: Final = 0x08  # in RequestHeader
_HEADER_TAG: Final = encode_varint(_HEADER_NUMBER << 3 | 2)
_LENGTH_DELIMITED: Final = 2

# The tag of each request's field in InternalRaftRequest, by the field's name.
FIELD_TAGS: Final[dict[str, bytes]] = {
    field.name: encode_varint(field.number << 3 | _LENGTH_DELIMITED)
    for field in internal_pb2.InternalRaftRequest.DESCRIPTOR.fields
    if field.message_type is not None and field.name != "header"
}
_PUT_TAG: Final = FIELD_TAGS["put"][0]
_TXN_TAG: Final = FIELD_TAGS["txn"][0]
_InternalRaftRequest = internal_pb2.InternalRaftRequest


class AppliedRequest:
    """A request as it is applied.

    field: its field in InternalRaftRequest, or `v2` for the older form; identity: whose request it is. The request id is left
    out: an entry is identified by its data.
    """

    __slots__ = ("_message", "field", "identity")

    def __init__(self, field: str, message: Any, identity: Identity = NOBODY) -> None:
        """message: parsed, or a SmallRequest."""
        self.field = field
        self.identity = identity
        self._message = message

    @property
    def message(self) -> Any:
        """The protobuf message."""
        message = self._message
        if isinstance(message, SmallRequest):
            message = self._message = message.request()
        return message

    @message.setter
    def message(self, message: Any) -> None:
        self._message = message

    @property
    def small(self) -> SmallRequest | None:
        message = self._message
        return message if isinstance(message, SmallRequest) else None


class RequestIds:
    """Ids unique over members and restarts: 16 bits of member id, 40 bits of start time in ms, an 8-bit counter that carries.

    now_ms: since 1970; at least 1, so that ids are large enough for the fast encoding to be as short as protobuf's.
    Source: etcd pkg/idutil. All but the lowest 7 bits are encoded once for 128 ids.
    """

    __slots__ = ("_head", "_high", "_high_bytes", "_low")

    def __init__(self, member_id: int, now_ms: int) -> None:
        self._low = 0
        self._high = (member_id & 0xFFFF) << 41 | (now_ms & (1 << 40) - 1) << 1
        self._encode_high()

    def next(self) -> int:
        """A fresh id; never 0."""
        self._advance()
        return self._high << 7 | self._low

    def next_header(self, identity: Identity = NOBODY) -> bytes:
        """A fresh id and the proposer's identity as the encoded `header` field, to be pasted after a request."""
        self._advance()
        if identity is NOBODY:
            return b"%b%b%b" % (self._head, MORE[self._low], self._high_bytes)
        named = identity.encoded
        size = len(self._high_bytes) + 2 + len(named)
        return b"%b%b\x08%b%b%b" % (_HEADER_TAG, varint(size), MORE[self._low], self._high_bytes, named)

    def _advance(self) -> None:
        self._low += 1
        if self._low == len(MORE):
            self._low = 0
            self._high = (self._high + 1) & (1 << 57) - 1
            self._encode_high()

    def _encode_high(self) -> None:
        self._high_bytes = encode_varint(self._high)
        self._head = b"%b%b\x08" % (_HEADER_TAG, varint(len(self._high_bytes) + 2))


def encode_request(field: str, body: bytes, ids: RequestIds, identity: Identity = NOBODY) -> bytes:
    """Entry data for `body`, the encoding of the message that belongs in `field` of InternalRaftRequest."""
    return b"%b%b%b%b" % (FIELD_TAGS[field], varint(len(body)), body, ids.next_header(identity))


def put_proposal(body: bytes, put: rpc_pb2.PutRequest) -> bytes:
    """The bytes to propose for a client's PutRequest: its own `body`, if that is what protobuf would write.

    The length decides: key and value take `least` bytes, and any other field makes it longer. The key is not empty.
    """
    key_bytes, value_bytes = len(put.key), len(put.value)
    least = 1 + _varint_bytes(key_bytes) + key_bytes
    if value_bytes:
        least += 1 + _varint_bytes(value_bytes) + value_bytes
    return body if len(body) == least else canonical_encoding(put)


def canonical_encoding(message: Message) -> bytes:
    """A client's request as protobuf would write it. Its own bytes may hold what our parser skips and etcd's rejects (a
    field of another wire type, for example): in the log they would stop every etcd in the cluster.
    """
    message.DiscardUnknownFields()
    return message.SerializeToString()


def _varint_bytes(number: int) -> int:
    return 1 if number < 0x80 else 2 if number < 0x4000 else (number.bit_length() + 6) // 7


def encode_request_slowly(field: str, body: bytes, request_id: int, identity: Identity = NOBODY) -> bytes:
    """The plain twin of `encode_request`, for its test."""
    request = internal_pb2.InternalRaftRequest()
    getattr(request, field).MergeFromString(body)
    getattr(request, field).SetInParent()
    request.header.ID = request_id
    request.header.username = identity.username
    request.header.auth_revision = identity.revision
    return request.SerializeToString()


def decode_request(data: bytes) -> AppliedRequest:
    """The request in an entry's data.

    Members of 3.4 and 3.5 write two requests in the older form; they are returned as field `v2`.
    Raises UnsupportedRequest for data of neither form, or of an unknown field: no member may guess what it means.
    """
    small = _small_request_in(data)
    if small is not None:
        return small
    try:
        request = _InternalRaftRequest.FromString(data)
    except DecodeError as error:
        older = _decode_v2(data)
        if older is not None:
            return AppliedRequest("v2", older)
        request = _InternalRaftRequest()
        try:
            parse_deep(request, data)
        except DecodeError:
            raise unreadable(data) from error
    identity = _identity_in(request.header)
    if data[0] == _PUT_TAG:
        return AppliedRequest("put", request.put, identity)
    for field, value in request.ListFields():
        if field.name in FIELD_TAGS:
            return AppliedRequest(field.name, value, identity)
    raise UnsupportedRequest(f"it holds a request of a kind that this version does not know ({data[:32].hex()})")


def _small_request_in(data: bytes) -> AppliedRequest | None:
    """The request of an entry, if it is a small one with its header behind it, as members write it."""
    if len(data) < 3 or data[0] not in (_PUT_TAG, _TXN_TAG):
        return None
    size, start = data[1], 2
    if size >= 0x80:
        size, start = size & 0x7F | data[2] << 7, 3
    end = start + size
    if len(data) < end + 3 or data[end : end + 2] != _HEADER_TAG or end + 3 + data[end + 2] != len(data):
        return None
    body = data[start:end]
    small = read_small_put(body) if data[0] == _PUT_TAG else read_small_txn(body)
    if small is None:
        return None
    identity = NOBODY
    if not _is_id(data, end + 3):
        try:
            identity = _identity_in(internal_pb2.RequestHeader.FromString(data[end + 3 :]))
        except DecodeError:
            return None
    return AppliedRequest("put" if data[0] == _PUT_TAG else "txn", small, identity)


def _is_id(data: bytes, at: int) -> bool:
    """Is the RequestHeader from `at` to the end of the data an id alone? Without authentication it is; read in a tenth of the
    time that protobuf takes.
    """
    last = len(data) - 1
    if not at < last <= at + 10 or data[at] != _ID_TAG or data[last] >= (0x80 if last < at + 10 else 2):
        return False
    position = at + 1
    while data[position] >= 0x80:
        position += 1
    return position == last


def _identity_in(header: internal_pb2.RequestHeader) -> Identity:
    return Identity(header.username, header.auth_revision) if header.username or header.auth_revision else NOBODY


def large_txn_in(data: bytes) -> tuple[memoryview, Identity] | None:
    """The encoded Txn in an entry that is too large to be parsed in one go, and whose it is; None for any other request."""
    if data[0] == _PUT_TAG:
        return None
    txn: memoryview | None = None
    identity = NOBODY
    cursor = FieldCursor(memoryview(data))
    try:
        for _ in range(_FIELDS_MAX):
            if not cursor.next():
                return None if txn is None else (txn, identity)
            if cursor.kind != LENGTH_DELIMITED:
                return None
            if cursor.number == _TXN_NUMBER and txn is None:
                txn = cursor.content
            elif cursor.number == _HEADER_NUMBER and identity is NOBODY:
                identity = _identity_in(internal_pb2.RequestHeader.FromString(bytes(cursor.content)))
            else:
                return None
    except DecodeError:
        pass
    return None


def unreadable(data: bytes) -> UnsupportedRequest:
    """The error for an entry that is no request."""
    return UnsupportedRequest(f"it holds neither form of request ({data[:32].hex()})")


def _decode_v2(data: bytes) -> Message | None:
    try:
        request = internal_pb2.Request.FromString(data)
    except DecodeError:
        return None
    return request if request.Path else None
