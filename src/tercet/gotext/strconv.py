"""How does Go print it? Quoting, sizes and number errors, as etcdctl's users see them.

Pure functions over text, no knowledge of commands; durations are in gotext/duration.py.
Source: strconv.Quote, go-humanize's Bytes.
"""

from __future__ import annotations

import re

_ESCAPES = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}
_UNESCAPES = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, '"': 34, "'": 39}
_HEX_WIDTH = {"x": 2, "u": 4, "U": 8}


class GoSyntaxError(ValueError):
    """Text that Go's parsers refuse; the message is theirs."""


def quote(data: bytes) -> str:
    """`%q`: printable text stays, the rest is escaped, and a byte that is not UTF-8 becomes `\\xff`."""
    parts = ['"']
    for character in data.decode("utf-8", "surrogateescape"):
        code = ord(character)
        if code in _ESCAPES:
            parts.append(_ESCAPES[code])
        elif 0xDC80 <= code <= 0xDCFF:  # what surrogateescape makes of a stray byte
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
    """The bytes of a Go string literal, `"..."` with escapes or `` `...` `` raw. Raises GoSyntaxError("invalid syntax")."""
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
    """One escape whose backslash stands before `at`: its bytes, and where reading goes on."""
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
    """`--hex` in the simple format: `\\x66\\x6f`."""
    return "".join(f"\\x{byte:02x}" for byte in data)


def parse_int(text: str, base: int = 10, bits: int = 64, *, signed: bool = True) -> int:
    """strconv.ParseInt or ParseUint, errors included."""
    function = "ParseInt" if signed else "ParseUint"
    digits = text[1:] if signed and text[:1] in ("+", "-") else text
    if not re.fullmatch("[0-9]+" if base == 10 else "[0-9a-fA-F]+", digits):
        raise GoSyntaxError(f"strconv.{function}: parsing {quote(text.encode('utf-8', 'surrogateescape'))}: invalid syntax")
    value = int(text, base)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    if not low <= value <= high:
        raise GoSyntaxError(f"strconv.{function}: parsing {quote(text.encode())}: value out of range")
    return value


def parse_bool(text: str) -> bool:
    """strconv.ParseBool: 1 t T true TRUE True, and their opposites."""
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise GoSyntaxError(f"strconv.ParseBool: parsing {quote(text.encode('utf-8', 'surrogateescape'))}: invalid syntax")


def humanize_bytes(count: int) -> str:
    """SI units, two significant digits below ten: `16 B`, `20 kB`, `2.1 GB`."""
    if count < 10:
        return f"{count} B"
    exponent, size = 0, 1
    while count >= size * 1000 and exponent < 6:
        exponent, size = exponent + 1, size * 1000
    tenths = (count * 10 + size // 2) // size  # rounded half up, in integers: a float would miss at 2**63
    unit = ("B", "kB", "MB", "GB", "TB", "PB", "EB")[exponent]
    return f"{tenths / 10:.1f} {unit}" if tenths < 100 else f"{tenths / 10:.0f} {unit}"
