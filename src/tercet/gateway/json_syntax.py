"""The syntax of JSON as Go's encoding/json checks it, with its error texts.

`end_of_value` checks one value of a body that may hold several; `Tokens` then reads a value that is known to be well-formed.
Neither builds a tree, so an endless array of unknown fields costs time but no memory.

Source: Go encoding/json (scanner.go) and protojson (decode_string.go), whose texts reach the gateway's clients.
"""

from __future__ import annotations

import json
import re
from typing import Final

from tercet.gotext.strconv import quote

_DEPTH_MAX: Final = 10_000
_LONG_BYTES: Final = 256
_CONTROLS: Final = bytes(range(0x20))
_GO_ESCAPES: Final = {"\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v"}
_DELETE: Final = 0x7F
_SPACE = re.compile(rb"[ \t\r\n]*")
_ESCAPE = rb'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})'
_STRING = re.compile(rb'"[^"\\\x00-\x1f]*(?:' + _ESCAPE + rb'[^"\\\x00-\x1f]*)*"')
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_DIGITS = re.compile(rb"[0-9]*")
_SCALAR = re.compile(_STRING.pattern + rb"|" + _NUMBER.pattern + rb"|true|false|null")
_TOKEN = re.compile(_SCALAR.pattern + rb"|[{}\[\]:,]")
_PAIR = rb"\\u[dD][89abAB]..\\u[dD][c-fC-F].."
# An escape; the group is half a pair. One possessive repetition of what may come before ends too late in Python 3.11.2.
_ANY_ESCAPE = re.compile(rb"\\[^u]|" + _PAIR + rb"|(\\u[dD][89a-fA-F])|\\u", re.DOTALL)
_ESCAPE_BYTES: Final = 6  # of \ud800


class NoValue(Exception):
    """The body ends before a value begins: io.EOF of Go's decoder."""


class JsonSyntaxError(ValueError):
    """The text is Go's."""


def end_of_value(body: bytes, start: int) -> tuple[int, int]:
    """(begin, end) of the next value. Raises NoValue, JsonSyntaxError."""
    position = begin = _skip(body, start)
    if begin == len(body):
        raise NoValue
    open_ones = bytearray()
    while True:
        position = _skip(body, position)
        character = body[position : position + 1]
        if character in (b"{", b"["):
            open_ones += character
            if len(open_ones) > _DEPTH_MAX:
                raise _unexpected(body, position, "exceeded max depth")
            position = _skip(body, position + 1)
            if body[position : position + 1] != _closing(open_ones):
                position = _first_element(body, position, open_ones)
                continue
        else:
            position = _scalar(body, position)
        position = _after_value(body, position, open_ones)
        if not open_ones:
            return begin, position


def _first_element(body: bytes, position: int, open_ones: bytearray) -> int:
    return _key(body, position) if open_ones[-1:] == b"{" else position


def _after_value(body: bytes, position: int, open_ones: bytearray) -> int:
    """Close what ends here. Returns the position of the next value, or the end of the outermost one."""
    while open_ones:
        position = _skip(body, position)
        character = body[position : position + 1]
        if character == b",":
            return _first_element(body, position + 1, open_ones)
        if character != _closing(open_ones):
            where = "after object key:value pair" if open_ones[-1:] == b"{" else "after array element"
            raise _unexpected(body, position, where)
        open_ones.pop()
        position += 1
    return position


def _closing(open_ones: bytearray) -> bytes:
    return b"}" if open_ones[-1:] == b"{" else b"]"


def _key(body: bytes, position: int) -> int:
    position = _skip(body, position)
    if body[position : position + 1] != b'"':
        raise _unexpected(body, position, "looking for beginning of object key string")
    position = _skip(body, _scalar(body, position))
    if body[position : position + 1] != b":":
        raise _unexpected(body, position, "after object key")
    return position + 1


def _scalar(body: bytes, position: int) -> int:
    end = _end_of_long_string(body, position)
    if end:
        return end
    found = _SCALAR.match(body, position)
    if found is not None:
        end = found.end()
        if found[0][-1:].isdigit():
            _check_number(body, end, found[0])
        return end
    raise _malformed_scalar(body, position)


def _end_of_long_string(body: bytes, position: int) -> int:
    """The end of a long string without escapes, of which a regular expression takes 20 ns a byte; 0 for anything else."""
    if body[position : position + 1] != b'"':
        return 0
    end = body.find(b'"', position + 1)
    if end - position < _LONG_BYTES or body.find(b"\\", position, end) >= 0:
        return 0
    inside = body[position + 1 : end]
    return end + 1 if len(inside.translate(None, _CONTROLS)) == len(inside) else 0


def _check_number(body: bytes, end: int, number: bytes) -> None:
    """A number that matched may be the beginning of a malformed one: `1.`, `1e+`; `1e2.` and `1.5.` are not."""
    character = body[end : end + 1]
    if b"e" in number or b"E" in number:
        return
    if character == b"." and b"." not in number:
        raise _unexpected(body, end + 1, "after decimal point in numeric literal")
    if character in (b"e", b"E"):
        sign = 1 if body[end + 1 : end + 2] in (b"+", b"-") else 0
        raise _unexpected(body, end + 1 + sign, "in exponent of numeric literal")


def _malformed_scalar(body: bytes, position: int) -> JsonSyntaxError:
    character = body[position : position + 1]
    if character == b'"':
        return _malformed_string(body, position)
    if character == b"-":
        return _unexpected(body, position + 1, "in numeric literal")
    for literal in (b"true", b"false", b"null"):
        if character == literal[:1]:
            at = next(
                index for index in range(1, 6) if body[position + index : position + index + 1] != literal[index : index + 1]
            )
            expected = literal[at : at + 1].decode()
            return _unexpected(body, position + at, f"in literal {literal.decode()} (expecting '{expected}')")
    return _unexpected(body, position, "looking for beginning of value")


def _malformed_string(body: bytes, position: int) -> JsonSyntaxError:
    found = re.compile(_STRING.pattern[:-1]).match(body, position)  # without its closing quote
    at = found.end() if found is not None else position + 1
    if body[at : at + 1] != b"\\":
        return _unexpected(body, at, "in string literal")
    if body[at + 1 : at + 2] != b"u":
        return _unexpected(body, at + 1, "in string escape code")
    at += 2
    while body[at : at + 1].isalnum() and body[at : at + 1] in b"0123456789abcdefABCDEF":
        at += 1
    return _unexpected(body, at, "in \\u hexadecimal character escape")


def _unexpected(body: bytes, position: int, where: str) -> JsonSyntaxError:
    if position >= len(body):
        return JsonSyntaxError("unexpected EOF")
    return JsonSyntaxError(f"invalid character {_quoted(body[position])} {where}")


def _quoted(byte: int) -> str:
    """A byte as Go's quoteChar shows it."""
    character = chr(byte)
    if character == "'":
        return r"'\''"
    if character == '"':
        return "'\"'"
    if not character.isprintable():
        return "'" + _GO_ESCAPES.get(character, f"\\u{byte:04x}" if byte > _DELETE else f"\\x{byte:02x}") + "'"
    return "'" + repr(character)[1:-1] + "'"


def _skip(body: bytes, position: int) -> int:
    found = _SPACE.match(body, position)
    assert found is not None
    return found.end()


class StringFault(ValueError):
    """A string of a well-formed value that is not valid Unicode; the text is protojson's."""


class Tokens:
    """The tokens of a well-formed value: `{`, `}`, `[`, `]`, strings, numbers and literals; `:` and `,` are passed over.

    Any method that comes to a string that is not valid Unicode raises StringFault.
    """

    def __init__(self, body: bytes, begin: int, end: int) -> None:
        self._body = body
        self._begin = begin
        self._end = end
        self._position = begin
        self._next = b""

    def peek(self) -> bytes:
        """The next token, b"" at the end."""
        if not self._next:
            position = self._position
            while True:
                position = _skip(self._body, position)
                if position >= self._end:
                    return b""
                if self._body[position] not in b":,":
                    break
                position += 1
            self._position = position
            end = _end_of_long_string(self._body, position)
            found = None if end else _TOKEN.match(self._body, position)
            token = found[0] if found is not None else self._body[position:end]
            if token[:1] == b'"' and not _is_unicode(token):
                raise StringFault(self._fault(token))
            self._next = token
        return self._next

    def _fault(self, token: bytes) -> str:
        """protojson shows what stands where it expects the second half of a pair, be it in the string or after its end."""
        half = next((escape.start() for escape in _ANY_ESCAPE.finditer(token) if escape[1]), len(token))
        place = self.place(self._position)
        try:
            token[:half].decode()
        except UnicodeDecodeError:
            return f"syntax error {place}: invalid UTF-8 in string"
        begin = self._position + half + _ESCAPE_BYTES
        instead = self._body[begin : min(begin + _ESCAPE_BYTES, self._end)]
        if len(instead) < _ESCAPE_BYTES:
            return "unexpected EOF"
        return f"syntax error {place}: invalid escape code {quote(instead)} in string"

    def take(self) -> bytes:
        token = self.peek()
        self._position += len(token)
        self._next = b""
        return token

    @property
    def position(self) -> int:
        """Of the next token, in the body."""
        self.peek()
        return self._position

    def place(self, position: int) -> str:
        """Line and column of a position, both from 1; columns count code points. Costs the length of the text before it."""
        before = self._body[self._begin : position]
        last_line = before[before.rfind(b"\n") + 1 :]
        lines = before.count(b"\n")
        return f"(line {lines + 1}:{len(last_line.decode('utf-8', 'replace')) + 1})"

    def skip_value(self) -> None:
        depth = 0
        while True:
            token = self.take()
            if token in (b"{", b"["):
                depth += 1
            elif token in (b"}", b"]"):
                depth -= 1
            if depth <= 0:
                return


def _is_unicode(token: bytes) -> bool:
    if token.isascii() and b"\\u" not in token:
        return True
    try:
        text_of(token).encode()  # UnicodeEncodeError for half of a surrogate pair
    except UnicodeError:
        return False
    return True


def text_of(token: bytes) -> str:
    """The value of a string that a Tokens has returned."""
    if b"\\" not in token:
        return token[1:-1].decode()
    text: str = json.loads(token)
    return text
