"""Protobuf messages into JSON, by the rules of protobuf's JSON mapping as etcd configures it.

Fields have the names of the .proto file, absent ones are left out; 64-bit integers are strings, bytes are base64, enum values
are names. A message is converted from its encoding in slices, so that a response of any size costs no long turn of the event
loop and no memory beyond one slice.

Source: google.golang.org/protobuf/encoding/protojson (encode.go), with UseProtoNames and without EmitUnpopulated.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from tercet.proto.fields import is_repeated

SLICE_BYTES: Final = 4 << 10
_STRINGS = frozenset(
    (FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_FIXED64, FieldDescriptor.TYPE_SINT64)
)


class JsonStyle:
    """comma: etcd 3.7 writes a blank after the commas of a response, and none in a stream's. escapes_html: as encoding/json."""

    def __init__(self, comma: str, *, escapes_html: bool) -> None:
        self.comma = comma
        self._escapes_html = escapes_html

    def string(self, text: str) -> str:
        shown = json.dumps(text, ensure_ascii=False)
        if self._escapes_html:
            for character in "<>&\u2028\u2029":
                shown = shown.replace(character, f"\\u{ord(character):04x}")
        return shown


RESPONSE = JsonStyle(", ", escapes_html=False)
STREAM = JsonStyle(",", escapes_html=True)


def encode(kind: type[Message], encoded: Iterable[bytes], style: JsonStyle) -> Iterator[str]:
    """The JSON of a message in pieces. encoded: in parts that end between fields of the message.

    Raises DecodeError for an encoding that is not one of this kind.
    """
    opened: FieldDescriptor | None = None
    separator = "{"
    for piece in chain.from_iterable(map(_slices, encoded)):
        for field, value in kind.FromString(piece).ListFields():
            if field is opened:
                yield "".join(style.comma + _value(field, each, style) for each in value)
                continue
            if opened is not None:
                yield "]"
            opened = field if is_repeated(field) else None
            yield f'{separator}"{field.name}":' + (
                f"[{_elements(field, value, style)}" if is_repeated(field) else _value(field, value, style)
            )
            separator = style.comma
    if opened is not None:
        yield "]"
    yield "{}" if separator == "{" else "}"


def _slices(encoded: bytes) -> Iterator[bytes]:
    """The encoding cut between fields; each slice is an encoding of its own."""
    if len(encoded) <= SLICE_BYTES:
        yield encoded
        return
    begin = position = 0
    while position < len(encoded):
        position = _after_field(encoded, position)
        if position - begin >= SLICE_BYTES:
            yield encoded[begin:position]
            begin = position
    if begin < position:
        yield encoded[begin:]


def _after_field(encoded: bytes, position: int) -> int:
    tag, position = _varint(encoded, position)
    kind = tag & 7
    if kind == 0:
        return _varint(encoded, position)[1]
    if kind == 2:
        size, position = _varint(encoded, position)
        return position + size
    return position + (8 if kind == 1 else 4)


def _varint(encoded: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = encoded[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _message(message: Message, style: JsonStyle) -> str:
    parts = [
        f'"{field.name}":' + (f"[{_elements(field, value, style)}]" if is_repeated(field) else _value(field, value, style))
        for field, value in message.ListFields()
    ]
    return "{" + style.comma.join(parts) + "}"


def _elements(field: FieldDescriptor, values: Any, style: JsonStyle) -> str:
    return style.comma.join([_value(field, each, style) for each in values])


def _value(field: FieldDescriptor, value: Any, style: JsonStyle) -> str:
    if field.message_type is not None:
        return _message(value, style)
    if field.type in _STRINGS:
        return f'"{value}"'
    if field.type == FieldDescriptor.TYPE_BYTES:
        return f'"{b64encode(value).decode("ascii")}"'
    return _PLAIN.get(field.type, _number)(field, value, style)


def _enum(field: FieldDescriptor, value: int, style: JsonStyle) -> str:
    known = field.enum_type.values_by_number.get(value) if field.enum_type is not None else None
    return f'"{known.name}"' if known is not None else str(value)


def _bool(field: FieldDescriptor, value: bool, style: JsonStyle) -> str:
    return "true" if value else "false"


def _text(field: FieldDescriptor, value: str, style: JsonStyle) -> str:
    return style.string(value)


def _number(field: FieldDescriptor, value: int, style: JsonStyle) -> str:
    return str(value)


_PLAIN: dict[int, Callable[[FieldDescriptor, Any, JsonStyle], str]] = {
    FieldDescriptor.TYPE_BOOL: _bool,
    FieldDescriptor.TYPE_ENUM: _enum,
    FieldDescriptor.TYPE_STRING: _text,
}
