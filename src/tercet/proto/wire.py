"""Protobuf's wire format where generated code is too slow: varints, and messages pasted into others.

`varint` is the fast encoder: a table answers for lengths and small numbers. `encode_varint` is its plain twin;
tests/proto/test_wire.py holds the two together, `python -m tests.mvcc.bench` measures.
"""

from __future__ import annotations

from typing import Final


def encode_varint(value: int) -> bytes:
    """Protobuf's base-128 integer; `value` >= 0."""
    if value < 0x80:
        return _ONE_BYTE[value]
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_ONE_BYTE: Final = [bytes((value,)) for value in range(0x80)]

MORE: Final = [bytes((0x80 | low,)) for low in range(0x80)]
"""A varint's first byte with more to follow, by its low seven bits. What follows is the varint of the other bits."""
# Encodings of 0 to 2**14 - 1: what `varint` returns for them. Callers that know their number to be small index it themselves.
VARINTS: Final = (*_ONE_BYTE, *[first + second for second in _ONE_BYTE[1:] for first in MORE])
_UINT64: Final = (1 << 64) - 1


def varint(value: int) -> bytes:
    """Protobuf's integer; a negative one as its 64-bit two's complement, like int64 on the wire."""
    if 0 <= value < 0x4000:
        return VARINTS[value]
    if 0 < value < 1 << 21:
        return MORE[value & 0x7F] + VARINTS[value >> 7]
    if 0 < value < 1 << 28:
        return MORE[value & 0x7F] + MORE[value >> 7 & 0x7F] + VARINTS[value >> 14]
    return encode_varint(value & _UINT64)


def decode_varint(data: bytes) -> int:
    """The value of `data`, which is one varint and nothing else."""
    value = 0
    for at in range(len(data) - 1, -1, -1):  # an index, since mypyc compiles `reversed` to an iterator of objects
        value = value << 7 | data[at] & 0x7F
    return value


def paste_field(number: int, message: bytes) -> bytes:
    """An embedded message as field `number` (< 16)."""
    return bytes((number << 3 | 2,)) + varint(len(message)) + message
