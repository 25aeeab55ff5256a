"""JSON into protobuf messages, by the rules of protobuf's JSON mapping as Go's protojson applies them.

Fields are named as in the .proto file or in lowerCamelCase; unknown fields and unknown names of enum values are ignored, null
is an absent field. 64-bit integers are numbers or strings, bytes are base64 in either alphabet, padded or not.

Source: google.golang.org/protobuf/encoding/protojson (decode.go), for rules and error texts.
"""

from __future__ import annotations

import binascii
import re
from decimal import Decimal
from functools import cache
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from tercet.errors import Code, StatusError
from tercet.gateway.json_syntax import StringFault, Tokens, text_of
from tercet.proto.fields import is_repeated

_DEPTH_MAX: Final = 90
"""Nesting of messages; protobuf for Python encodes up to 100."""
# The first token of the text, as in Go: `"7]"` is 7 but `"7a"` is refused. Also `100.0` and `1e2`; of 1e999999999 no digits are
# computed.
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,400})(?:\.[0-9]{1,400})?(?:[eE][+-]?[0-9]{1,3})?(?![0-9A-Za-z_+.-])")
_WHITE_SPACE: Final = "".join(
    map(chr, (*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000))
)
_KINDS: dict[int, str] = {
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_ENUM: "enum",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_UINT64: "uint64",
}
_RANGES: dict[int, range] = {
    FieldDescriptor.TYPE_ENUM: range(-(1 << 31), 1 << 31),
    FieldDescriptor.TYPE_INT32: range(-(1 << 31), 1 << 31),
    FieldDescriptor.TYPE_INT64: range(-(1 << 63), 1 << 63),
    FieldDescriptor.TYPE_UINT32: range(1 << 32),
    FieldDescriptor.TYPE_UINT64: range(1 << 64),
}


def decode(tokens: Tokens, message: Message) -> None:
    """Fill an empty message. Raises StatusError (INVALID_ARGUMENT) with protojson's text."""
    try:
        _decode_message(tokens, message, _DEPTH_MAX)
    except StringFault as fault:
        raise _refused(str(fault)) from fault


def _decode_message(tokens: Tokens, message: Message, depth: int) -> None:
    if not depth:
        raise _refused("exceeded max recursion depth")
    if tokens.peek() != b"{":
        raise _unexpected_token(tokens)
    tokens.take()
    fields = _fields(message.DESCRIPTOR)
    seen: set[int] = set()
    chosen: set[str] = set()
    while tokens.peek() != b"}":
        position = tokens.position
        shown = tokens.peek().decode("utf-8", "replace")
        name = text_of(tokens.take())
        field = fields.get(name)
        if field is None:
            tokens.skip_value()
            continue
        if field.number in seen:
            raise _refused(f"{tokens.place(position)}: duplicate field {shown}")
        seen.add(field.number)
        if tokens.peek() == b"null":
            tokens.take()
            continue
        oneof = field.containing_oneof
        if oneof is not None:
            if oneof.name in chosen:
                raise _refused(f"{tokens.place(position)}: error parsing {shown}, oneof {oneof.full_name} is already set")
            chosen.add(oneof.name)
        _decode_field(tokens, message, field, depth)
    tokens.take()


@cache
def _fields(descriptor: Descriptor) -> dict[str, FieldDescriptor]:
    """A message's fields by both of their names."""
    fields: dict[str, FieldDescriptor] = {}
    for field in descriptor.fields:
        fields[field.name] = field
        fields[field.json_name] = field
    return fields


def _decode_field(tokens: Tokens, message: Message, field: FieldDescriptor, depth: int) -> None:
    if not is_repeated(field):
        if field.message_type is not None:
            inner: Message = getattr(message, field.name)
            inner.SetInParent()
            _decode_message(tokens, inner, depth - 1)
        else:
            value = _scalar(tokens, field)
            if value is not None:
                setattr(message, field.name, value)
        return
    if tokens.peek() != b"[":
        raise _unexpected_token(tokens)
    tokens.take()
    elements: Any = getattr(message, field.name)
    while tokens.peek() != b"]":
        if field.message_type is not None:
            _decode_message(tokens, elements.add(), depth - 1)
        else:
            value = _scalar(tokens, field)
            if value is not None:
                elements.append(value)
    tokens.take()


def _scalar(tokens: Tokens, field: FieldDescriptor) -> Any:
    """The value of the next token; None for an unknown name of an enum value, which is ignored."""
    token = tokens.peek()
    value: Any
    if field.type == FieldDescriptor.TYPE_BOOL:
        value = {b"true": True, b"false": False}.get(token)
    elif field.type == FieldDescriptor.TYPE_STRING:
        value = text_of(token) if token[:1] == b'"' else None
    elif field.type == FieldDescriptor.TYPE_BYTES:
        is_plain = token[:1] != b'"' or (token.isascii() and b"\\" not in token)
        value = _bytes(token if is_plain else f'"{text_of(token)}"'.encode())
    elif field.type == FieldDescriptor.TYPE_ENUM and token[:1] == b'"':
        name = text_of(tokens.take())
        named = field.enum_type.values_by_name.get(name) if field.enum_type is not None else None
        return named.number if named is not None else None
    else:
        value = _integer(tokens, token, field)
    if value is None:
        shown = token.decode("utf-8", "replace")
        raise _refused(
            f"{tokens.place(tokens.position)}: invalid value for {_KINDS[field.type]} field {field.json_name}: {shown}"
        )
    tokens.take()
    return value


def _integer(tokens: Tokens, token: bytes, field: FieldDescriptor) -> int | None:
    is_quoted = token[:1] == b'"' and field.type != FieldDescriptor.TYPE_ENUM
    found = _NUMBER.match(_without_space(text_of(token)) if is_quoted else token.decode("utf-8", "replace"))
    if found is None:
        return None
    number = Decimal(found[0])
    if number != number.to_integral_value():
        return None
    value = int(number)
    return value if value in _RANGES[field.type] else None


def _without_space(text: str) -> str:
    """The text, "" if it begins or ends with white space, which is refused."""
    return text if text == text.strip(_WHITE_SPACE) else ""


def _bytes(token: bytes) -> bytes | None:
    """The bytes of a string in quotes, None for another token."""
    if token[:1] != b'"':
        return None
    text = token[1:-1]
    encoded = text.replace(b"\r", b"").replace(b"\n", b"") if b"\n" in text or b"\r" in text else text
    if b"-" in encoded or b"_" in encoded:
        if b"+" in encoded or b"/" in encoded:
            return None
        encoded = encoded.translate(bytes.maketrans(b"-_", b"+/"))
    if len(text) % 4:
        if b"=" in encoded:
            return None
        encoded += b"=" * (-len(encoded) % 4)
    try:
        return binascii.a2b_base64(encoded, strict_mode=True)
    except binascii.Error:
        return None


def _unexpected_token(tokens: Tokens) -> StatusError:
    shown = tokens.peek().decode("utf-8", "replace")
    return _refused(f"syntax error {tokens.place(tokens.position)}: unexpected token {shown}")


def _refused(text: str) -> StatusError:
    return StatusError(Code.INVALID_ARGUMENT, f"proto: {text}")
