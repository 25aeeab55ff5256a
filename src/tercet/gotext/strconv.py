"""Quoting, integers, booleans and byte sizes as Go parses and prints them, error texts included.

Source: strconv.Quote, strconv.Unquote, strconv.ParseInt, strconv.ParseBool, go-humanize's Bytes.
"""

from __future__ import annotations

import re

_ESCAPES = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}
_UNESCAPES = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, '"': 34, "'": 39}
_HEX_WIDTH = {"x": 2, "u": 4, "U": 8}


class GoSyntaxError(ValueError):
    """Text that Go's parsers reject; the message is theirs."""


class GoRangeError(GoSyntaxError):
    """A number that does not fit its type."""


def quote(data: bytes) -> str:
    """`%q`: printable text is kept, everything else is escaped; a byte that is not UTF-8 becomes `\\xff`."""
    parts = ['"']
    for character in data.decode("utf-8", "surrogateescape"):
        code = ord(character)
        if code in _ESCAPES:
            parts.append(_ESCAPES[code])
        elif 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, as surrogateescape decodes it
            parts.append(f"\\x{code - 0xDC00:02x}")
        elif character.isprintable():
            parts.append(character)
        elif code < 0x20 or code == 0x7F:
            parts.append(f"\\x{code:02x}")
        else:
            parts.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    parts.append('"')
    return "".join(parts)


def unquote(text: str) -> bytes:
    """The bytes of a Go string literal: `"..."` with escapes, or raw `` `...` ``. Raises GoSyntaxError("invalid syntax")."""
    if len(text) < 2 or text[0] != text[-1] or text[0] not in '"`':
        raise GoSyntaxError("invalid syntax")
    body = text[1:-1]
    if text[0] == "`":
        return body.encode("utf-8", "surrogateescape")
    out, at = bytearray(), 0
    while at < len(body):
        character = body[at]
        if character == "\\":
            piece, at = _unescape(body, at + 1)
            out += piece
        elif character in '"\n':
            raise GoSyntaxError("invalid syntax")
        else:
            out += character.encode("utf-8", "surrogateescape")
            at += 1
    return bytes(out)


def _unescape(body: str, at: int) -> tuple[bytes, int]:
    """(bytes, position after it) of the escape whose backslash precedes `at`."""
    kind = body[at : at + 1]
    if kind in _HEX_WIDTH:
        digits = body[at + 1 : at + 1 + _HEX_WIDTH[kind]]
        if len(digits) != _HEX_WIDTH[kind] or not re.fullmatch("[0-9a-fA-F]+", digits):
            raise GoSyntaxError("invalid syntax")
        value = int(digits, 16)
        if kind != "x" and (value > 0x10FFFF or 0xD800 <= value < 0xE000):
            raise GoSyntaxError("invalid syntax")
        return (bytes([value]) if kind == "x" else chr(value).encode()), at + 1 + len(digits)
    if kind and kind in "01234567":
        digits = body[at : at + 3]
        if not re.fullmatch("[0-3][0-7]{2}", digits):
            raise GoSyntaxError("invalid syntax")
        return bytes([int(digits, 8)]), at + 3
    if kind == "'" or kind not in _UNESCAPES:  # \' is an escape of Go's runes, not of its strings
        raise GoSyntaxError("invalid syntax")
    return bytes([_UNESCAPES[kind]]), at + 1


def hex_bytes(data: bytes) -> str:
    """etcdctl's `--hex` output: `\\x66\\x6f`."""
    return "".join(f"\\x{byte:02x}" for byte in data)


_BASE_0 = re.compile(r"0[xX](?:_?[0-9a-fA-F])+|0[bB](?:_?[01])+|0[oO](?:_?[0-7])+|0(?:_?[0-7])+|[1-9](?:_?[0-9])*|0", re.ASCII)
_DIGITS = {0: _BASE_0, 8: re.compile("[0-7]+"), 10: re.compile("[0-9]+"), 16: re.compile("[0-9a-fA-F]+")}


def parse_int(text: str, base: int = 10, bits: int = 64, *, signed: bool = True) -> int:
    """strconv.ParseInt or ParseUint. base: 0 (the prefix decides: 0x10, 0b1, 0o7, 010, 1_000), 8, 10 or 16.

    Raises GoSyntaxError, or GoRangeError for a value of more than `bits` bits.
    """
    digits = text[1:] if signed and text[:1] in ("+", "-") else text
    if not _DIGITS[base].fullmatch(digits):
        raise GoSyntaxError(_number_error(text, "invalid syntax", signed=signed))
    is_octal = base == 0 and re.fullmatch("0[0-7_]+", digits)
    value = int(digits.replace("_", ""), 8 if is_octal else base) * (-1 if text[0] == "-" else 1)
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    if not low <= value <= high:
        raise GoRangeError(_number_error(text, "value out of range", signed=signed))
    return value


def _number_error(text: str, reason: str, *, signed: bool) -> str:
    function = "ParseInt" if signed else "ParseUint"
    return f"strconv.{function}: parsing {quote(text.encode('utf-8', 'surrogateescape'))}: {reason}"


def parse_bool(text: str) -> bool:
    """strconv.ParseBool: 1 t T true TRUE True, and their opposites."""
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise GoSyntaxError(f"strconv.ParseBool: parsing {quote(text.encode('utf-8', 'surrogateescape'))}: invalid syntax")


def humanize_bytes(count: int) -> str:
    """SI units, with one decimal below ten: `16 B`, `20 kB`, `2.1 GB`."""
    if count < 10:
        return f"{count} B"
    exponent, size = 0, 1
    while count >= size * 1000 and exponent < 6:
        exponent, size = exponent + 1, size * 1000
    tenths = (count * 10 + size // 2) // size  # rounded half up, in integers: a float would miss at 2**63
    unit = ("B", "kB", "MB", "GB", "TB", "PB", "EB")[exponent]
    return f"{tenths / 10:.1f} {unit}" if tenths < 100 else f"{tenths / 10:.0f} {unit}"
