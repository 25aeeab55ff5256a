"""JSON with the line of every value, for messages such as `etcd-csr.json:7: key.size: ...`.

    root = Section(parse(content, "etcd-csr.json"))        # keys are case-insensitive, as in Go
    name = root.string("CN"); size = root.section("key").integer("size")
    root.reject_unknown()                                  # rejects the keys that were not read

Stricter than cfssl, which ignores misspelt and duplicate keys: a duplicate is an error, an unknown key an error or a warning.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import NoReturn

from tercet.errors import ConfigError

_DECODER = json.JSONDecoder()
_NESTING_MAX = 32
_BYTES_MAX = 1 << 20  # real files have a few hundred
_BLANKS = re.compile(r"[ \t\n\r]*")
_DURATION = re.compile(r"(?:\d+(?:\.\d*)?|\.\d+)(?:h|m(?!s)|s|ms)", re.ASCII)
_UNIT_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


@dataclass(frozen=True)
class Value:
    """One value and its place. content: str, int, float, bool, None, a dict or a list of values."""

    content: object
    source: str
    line: int
    path: str  # for example `names[0].C`

    def fail(self, text: str) -> NoReturn:
        """Raise ConfigError naming file, line and path."""
        raise ConfigError(self.message(text))

    def message(self, text: str) -> str:
        """`text` with file, line and path."""
        place = f"{self.path}: " if self.path else ""
        return f"{self.source}:{self.line}: {place}{text}"


def parse(content: bytes, source: str) -> Value:
    """Parse a file's content. source: file name for errors. Raises ConfigError."""
    if len(content) > _BYTES_MAX:
        raise ConfigError(f"{source}: too large ({len(content)} bytes)")
    try:
        text = content.decode("utf-8-sig")
        json.loads(text)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{source}: not UTF-8 text") from error
    except json.JSONDecodeError as error:
        raise ConfigError(f"{source}:{error.lineno}: invalid JSON: {error.msg} (column {error.colno})") from error
    except RecursionError as error:
        raise ConfigError(f"{source}: nested too deeply") from error
    return _Walker(text, source).value(_skip(text, 0), "", 0)[0]


class _Walker:
    """Walks over valid JSON and records the position of each value, which the standard parser discards."""

    def __init__(self, text: str, source: str) -> None:
        self._text = text
        self._source = source

    def value(self, position: int, path: str, depth: int) -> tuple[Value, int]:
        """The value at `position`, and the position after it."""
        line = self._text.count("\n", 0, position) + 1
        content: object
        if depth > _NESTING_MAX:
            Value(None, self._source, line, path).fail("nested too deeply")
        if self._text[position] == "{":
            content, end = self._members(position + 1, path, depth)
        elif self._text[position] == "[":
            content, end = self._items(position + 1, path, depth)
        else:
            content, end = _DECODER.raw_decode(self._text, position)
        return Value(content, self._source, line, path), end

    def _members(self, position: int, path: str, depth: int) -> tuple[dict[str, Value], int]:
        members: dict[str, Value] = {}
        position = _skip(self._text, position)
        while self._text[position] != "}":
            key, position = _DECODER.raw_decode(self._text, position)
            place = f"{path}.{key}" if path else str(key)
            value, position = self.value(_skip(self._text, _skip(self._text, position) + 1), place, depth + 1)
            if key in members:
                value.fail(f"duplicate key, first in line {members[key].line}")
            members[key] = value
            position = self._after(position)
        return members, position + 1

    def _items(self, position: int, path: str, depth: int) -> tuple[list[Value], int]:
        items: list[Value] = []
        position = _skip(self._text, position)
        while self._text[position] != "]":
            value, position = self.value(position, f"{path}[{len(items)}]", depth + 1)
            items.append(value)
            position = self._after(position)
        return items, position + 1

    def _after(self, position: int) -> int:
        """The position of the next item after a comma, or of the closing bracket."""
        position = _skip(self._text, position)
        return _skip(self._text, position + 1) if self._text[position] == "," else position


def _skip(text: str, position: int) -> int:
    blanks = _BLANKS.match(text, position)
    return blanks.end() if blanks else position


class Section:
    """An object whose keys are read one by one; `reject_unknown` rejects the others."""

    def __init__(self, value: Value) -> None:
        if not isinstance(value.content, dict):
            value.fail("must be an object")
        self.value = value
        self._read: list[str] = []
        self._by_name: dict[str, Value] = {}
        self._spelling: dict[str, str] = {}
        for key, member in value.content.items():
            if key.lower() in self._by_name:
                member.fail(f"duplicate key: {self._spelling[key.lower()]} and {key}")
            self._by_name[key.lower()] = member
            self._spelling[key.lower()] = key

    def find(self, key: str) -> Value | None:
        """The value of `key`, if present and not null."""
        self._read.append(key)
        found = self._by_name.get(key.lower())
        return None if found is None or found.content is None else found

    def string(self, key: str) -> str:
        """A string; empty if absent. Raises ConfigError."""
        found = self.find(key)
        return "" if found is None else as_string(found)

    def strings(self, key: str) -> list[Value]:
        """A list of strings; empty if absent. Raises ConfigError."""
        items = self.items(key)
        for item in items:
            as_string(item)
        return items

    def items(self, key: str) -> list[Value]:
        """A list; empty if absent. Raises ConfigError."""
        found = self.find(key)
        if found is None:
            return []
        if not isinstance(found.content, list):
            found.fail("must be a list")
        return found.content

    def integer(self, key: str) -> int:
        """An integer; 0 if absent. Raises ConfigError."""
        found = self.find(key)
        if found is None:
            return 0
        if not isinstance(found.content, int) or isinstance(found.content, bool):
            found.fail("must be an integer")
        return found.content

    def boolean(self, key: str) -> bool:
        """A boolean; false if absent. Raises ConfigError."""
        found = self.find(key)
        if found is None:
            return False
        if not isinstance(found.content, bool):
            found.fail("must be true or false")
        return found.content

    def section(self, key: str) -> Section | None:
        """An object; None if absent. Raises ConfigError."""
        found = self.find(key)
        return None if found is None else Section(found)

    def duration(self, key: str) -> timedelta | None:
        """A Go duration (`8760h`, `1h30m`); None if absent or empty. Raises ConfigError."""
        found = self.find(key)
        return None if found is None or found.content == "" else _as_duration(found)

    def timestamp(self, key: str) -> datetime | None:
        """An RFC 3339 timestamp (`2026-01-31T00:00:00Z`); None if absent. Raises ConfigError."""
        found = self.find(key)
        if found is None:
            return None
        try:
            value = datetime.fromisoformat(as_string(found))
        except ValueError:
            found.fail("must be a timestamp such as 2026-01-31T00:00:00Z")
        if value.tzinfo is None:
            found.fail("must be a timestamp with time zone, such as 2026-01-31T00:00:00Z")
        return value

    def reject_unknown(self, unsupported: Mapping[str, str] | None = None, *, warnings: list[str] | None = None) -> None:
        """Reject keys that were not read. unsupported: known keys and why they are rejected. Raises ConfigError.

        warnings: if given, receives a message for each unknown key instead.
        """
        reasons = {key.lower(): reason for key, reason in (unsupported or {}).items()}
        read = {key.lower() for key in self._read}
        for name, value in self._by_name.items():
            if name in reasons and value.content not in (None, "", [], {}, False, 0):
                value.fail(reasons[name])
            if name not in read and name not in reasons:
                near = get_close_matches(name, [key.lower() for key in self._read], n=1, cutoff=0.5)
                meant = next((key for key in self._read if near and key.lower() == near[0]), None)
                hint = f"did you mean {meant!r}?" if meant else f"known keys: {', '.join(dict.fromkeys(self._read))}"
                if warnings is None:
                    value.fail(f"unknown key; {hint}")
                warnings.append(value.message(f"unknown key, ignored; {hint}"))

    def __iter__(self) -> Iterator[tuple[str, Value]]:
        """All keys as written, with their values; for objects with free keys."""
        members = self.value.content
        return iter(members.items() if isinstance(members, dict) else ())


def as_string(value: Value) -> str:
    """Raises ConfigError if it is not a string."""
    if not isinstance(value.content, str):
        value.fail("must be a string")
    return value.content


def _as_duration(value: Value) -> timedelta:
    text = as_string(value)
    parts = _DURATION.findall(text)
    if not parts or "".join(parts) != text:
        hint = "; Go durations have no days, use hours" if re.fullmatch(r"\d+[dwy]", text) else ""
        value.fail(f"must be a duration such as 8760h or 1h30m, not {text!r}{hint}")
    try:
        seconds = sum(float(part.rstrip("hms")) * _UNIT_SECONDS[part.lstrip("0123456789.")] for part in parts)
        return timedelta(seconds=seconds)
    except OverflowError:
        value.fail(f"duration out of range: {text}")
