"""JSON that knows its lines: what stands where in a file, so that a mistake is told as `etcd-csr.json:7: key.size: ...`.

    reader = read(path)
    request = Section(reader)              # keys are found whatever their case, as Go finds them
    name = request.text("CN"); size = request.section("key").integer("size")
    request.end()                          # refuses whatever was not asked for

Strict where cfssl is silent: a misspelt or repeated key is an error, since what it meant would be missing from a certificate.
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
    path: str  # as one would say it: `names[0].C`

    def refuse(self, text: str) -> NoReturn:
        """Raise ConfigError that names file, line and place."""
        place = f"{self.path}: " if self.path else ""
        raise ConfigError(f"{self.source}:{self.line}: {place}{text}")


def parse(content: bytes, source: str) -> Value:
    """The value in a file's content. source: the file's name, for errors. Raises ConfigError."""
    if len(content) > _BYTES_MAX:
        raise ConfigError(f"{source}: too large for such a file ({len(content)} bytes)")
    try:
        text = content.decode("utf-8-sig")
        json.loads(text)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{source}: not a text in UTF-8") from error
    except json.JSONDecodeError as error:
        raise ConfigError(f"{source}:{error.lineno}: not JSON: {error.msg} (column {error.colno})") from error
    except RecursionError as error:
        raise ConfigError(f"{source}: not JSON that anybody wrote: too many brackets") from error
    return _Walk(text, source).value(_skip(text, 0), "", 0)[0]


class _Walk:
    """Over a text that is known to be JSON, keeping what the standard parser throws away: where each value begins."""

    def __init__(self, text: str, source: str) -> None:
        self._text = text
        self._source = source

    def value(self, position: int, path: str, depth: int) -> tuple[Value, int]:
        """The value that begins at `position`, and where it ends."""
        line = self._text.count("\n", 0, position) + 1
        content: object
        if depth > _NESTING_MAX:
            Value(None, self._source, line, path).refuse("nested too deeply")
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
                value.refuse(f"stands here twice, first in line {members[key].line}")
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
        """Past a comma, to the next item; or to the closing bracket."""
        position = _skip(self._text, position)
        return _skip(self._text, position + 1) if self._text[position] == "," else position


def _skip(text: str, position: int) -> int:
    blanks = _BLANKS.match(text, position)
    return blanks.end() if blanks else position


class Section:
    """An object whose keys are asked for one by one; `end` refuses those that were not."""

    def __init__(self, value: Value) -> None:
        if not isinstance(value.content, dict):
            value.refuse("must be an object: {...}")
        self.value = value
        self._asked: list[str] = []
        self._by_name: dict[str, Value] = {}
        self._spelling: dict[str, str] = {}
        for key, member in value.content.items():
            if key.lower() in self._by_name:
                member.refuse(f"stands here twice, as {self._spelling[key.lower()]} and as {key}")
            self._by_name[key.lower()] = member
            self._spelling[key.lower()] = key

    def find(self, key: str) -> Value | None:
        """The value of `key`, if it is there and not null."""
        self._asked.append(key)
        found = self._by_name.get(key.lower())
        return None if found is None or found.content is None else found

    def text(self, key: str) -> str:
        """A string; empty if absent. Raises ConfigError."""
        found = self.find(key)
        return "" if found is None else as_text(found)

    def texts(self, key: str) -> list[Value]:
        """A list whose values are strings; empty if absent. Raises ConfigError."""
        items = self.items(key)
        for item in items:
            as_text(item)
        return items

    def items(self, key: str) -> list[Value]:
        """A list; empty if absent. Raises ConfigError."""
        found = self.find(key)
        if found is None:
            return []
        if not isinstance(found.content, list):
            found.refuse("must be a list: [...]")
        return found.content

    def integer(self, key: str) -> int:
        """A whole number; 0 if absent. Raises ConfigError."""
        found = self.find(key)
        if found is None:
            return 0
        if not isinstance(found.content, int) or isinstance(found.content, bool):
            found.refuse("must be a whole number")
        return found.content

    def truth(self, key: str) -> bool:
        """True or false; false if absent. Raises ConfigError."""
        found = self.find(key)
        if found is None:
            return False
        if not isinstance(found.content, bool):
            found.refuse("must be true or false")
        return found.content

    def section(self, key: str) -> Section | None:
        """An object within; None if absent. Raises ConfigError."""
        found = self.find(key)
        return None if found is None else Section(found)

    def duration(self, key: str) -> timedelta | None:
        """A duration as Go writes it (`8760h`, `1h30m`); None if absent or empty. Raises ConfigError."""
        found = self.find(key)
        return None if found is None or found.content == "" else _as_duration(found)

    def moment(self, key: str) -> datetime | None:
        """A time as RFC 3339 writes it (`2026-01-31T00:00:00Z`); None if absent. Raises ConfigError."""
        found = self.find(key)
        if found is None:
            return None
        try:
            moment = datetime.fromisoformat(as_text(found))
        except ValueError:
            found.refuse("must be a time such as 2026-01-31T00:00:00Z")
        if moment.tzinfo is None:
            found.refuse("must be a time with its zone, such as 2026-01-31T00:00:00Z")
        return moment

    def end(self, unsupported: Mapping[str, str] | None = None) -> None:
        """Refuse what nobody asked for. unsupported: keys that are known, and why they are refused. Raises ConfigError."""
        reasons = {key.lower(): reason for key, reason in (unsupported or {}).items()}
        asked = {key.lower() for key in self._asked}
        for name, value in self._by_name.items():
            if name in reasons and value.content not in (None, "", [], {}, False, 0):
                value.refuse(reasons[name])
            if name not in asked and name not in reasons:
                near = get_close_matches(name, [key.lower() for key in self._asked], n=1, cutoff=0.5)
                meant = next((key for key in self._asked if near and key.lower() == near[0]), None)
                hint = f"did you mean {meant!r}?" if meant else f"known are {', '.join(dict.fromkeys(self._asked))}"
                value.refuse(f"there is no such key; {hint}")

    def __iter__(self) -> Iterator[tuple[str, Value]]:
        """All keys as they are written, and their values; for objects whose keys are names of the user's."""
        members = self.value.content
        return iter(members.items() if isinstance(members, dict) else ())


def as_text(value: Value) -> str:
    """Raises ConfigError where it is no string."""
    if not isinstance(value.content, str):
        value.refuse('must be a text: "..."')
    return value.content


def _as_duration(value: Value) -> timedelta:
    text = as_text(value)
    parts = _DURATION.findall(text)
    if not parts or "".join(parts) != text:
        hint = "; there is no unit for days, write hours" if re.fullmatch(r"\d+[dwy]", text) else ""
        value.refuse(f"must be a duration such as 8760h or 1h30m, not {text!r}{hint}")
    try:
        seconds = sum(float(part.rstrip("hms")) * _UNIT_SECONDS[part.lstrip("0123456789.")] for part in parts)
        return timedelta(seconds=seconds)
    except OverflowError:
        value.refuse(f"too long: {text}")
