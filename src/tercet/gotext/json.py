"""A message as etcdctl prints it in JSON: one line, fields in the schema's order and spelling, empty ones left out.

Bytes are base64, numbers are plain (64-bit ones too), enums are numbers, and a oneof is wrapped in its own name:
    {"header":{"revision":40},"succeeded":true,"responses":[{"Response":{"response_put":{"header":{"revision":40}}}}]}
protobuf's own JSON differs in each of these.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from google.protobuf.message import Message

from tercet.proto.fields import is_repeated

Json = dict[str, Any]


def dumps(value: Any) -> str:
    """Compact, with the characters escaped that Go escapes for the sake of HTML."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def json_number(value: float) -> str:
    """A number as encoding/json writes it: 1000, 0.5, 10000000000000000000, 1e+22."""
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e21):
        return str(int(value))
    return repr(value) if abs(value) >= 1e21 or "e" not in repr(value) else f"{value:.17f}".rstrip("0")


def message_json(message: Message) -> Json:
    """The fields of a message that are not empty. A oneof is shown under its Go name: `response` is `Response`."""
    out: Json = {}
    for field in message.DESCRIPTOR.fields:
        value = _field_json(message, field)
        if value is None:
            continue
        oneof = field.containing_oneof
        if oneof is not None:
            out[oneof.name.title().replace("_", "")] = {field.name: value}
        else:
            out[field.name] = value
    return out


def _field_json(message: Message, field: Any) -> Any:
    """The value, or None where Go would leave the field out."""
    value = getattr(message, field.name)
    if is_repeated(field):
        return [_scalar_json(item) for item in value] or None
    if field.message_type is not None or field.containing_oneof is not None:
        return _scalar_json(value) if message.HasField(field.name) else None
    return _scalar_json(value) if value else None


def _scalar_json(value: Any) -> Any:
    if isinstance(value, Message):
        return message_json(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return value
