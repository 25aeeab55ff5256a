"""Parser for systemd units: sections, and command lines by systemd's rules for quotes, variables and continued lines.

    ExecStart=/opt/k8s/bin/etcd \\
      --name=##NODE_NAME## \\
      --listen-client-urls=https://10.0.0.1:2379,http://127.0.0.1:2379

Nothing is executed and no other file is read: drop-ins and EnvironmentFile= are on the hosts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tercet.deploy.draft.text_file import read_text
from tercet.errors import ConfigError

_SECTION = re.compile(r"\[([A-Za-z0-9@_ -]+)\]")
_ESCAPES = {"n": "\n", "t": "\t", "s": " ", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
PLACEHOLDER = re.compile(r"##\w+##|\{\{[^{}]*\}\}|@\w+@|<\w+>")
"""Placeholders for the name or address of a host in a unit template."""
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")


@dataclass(frozen=True)
class Entry:
    """One assignment of the unit."""

    key: str
    value: str
    line: int


@dataclass
class Unit:
    """sections: entries in file order, continued lines joined."""

    path: Path
    sections: dict[str, list[Entry]] = field(default_factory=dict)

    def all(self, section: str, key: str) -> list[Entry]:
        """The entries of a repeatable key; an empty value resets the list."""
        found: list[Entry] = []
        for entry in self.sections.get(section, []):
            if entry.key == key:
                found = [*found, entry] if entry.value else []
        return found

    def last(self, section: str, key: str) -> str:
        """The last value of a key; "" if there is none."""
        found = self.all(section, key)
        return found[-1].value if found else ""


def read_unit(path: Path) -> Unit:
    """Raises ConfigError for an invalid unit file."""
    text = read_text(path, "unit file")
    unit = Unit(path)
    section: list[Entry] | None = None
    for line, statement in _joined_lines(text):
        heading = _SECTION.fullmatch(statement)
        if heading:
            section = unit.sections.setdefault(heading[1], [])
            continue
        key, equals, value = statement.partition("=")
        if not equals or section is None:
            what = "is before the first [Section]" if equals else "is neither KEY=VALUE nor a [Section]"
            raise ConfigError(f"{path}:{line}: {statement[:60]!r} {what}; not a unit file")
        section.append(Entry(key.strip(), value.strip(), line))
    return unit


def _joined_lines(text: str) -> list[tuple[int, str]]:
    """(first line, statement), without comments and empty lines, also inside continued lines."""
    statements: list[tuple[int, str]] = []
    parts: list[str] = []
    begin = 0
    for number, raw in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        line = raw.strip()
        if line.startswith(("#", ";")):
            continue
        if not parts:
            begin = number
        is_continued = line.endswith("\\")
        parts.append(line[:-1].rstrip() if is_continued else line)
        if not is_continued:
            statement = " ".join(filter(None, parts))
            parts = []
            if statement:
                statements.append((begin, statement))
    if any(parts):
        statements.append((begin, " ".join(filter(None, parts))))
    return statements


def split_words(text: str) -> list[str]:
    """Split a command line or Environment= into words, with quotes and escapes removed. Raises ValueError."""
    words: list[str] = []
    word: list[str] | None = None
    quote = ""
    at = 0
    while at < len(text):
        letter = text[at]
        at += 1
        if quote and letter == quote:
            quote = ""
        elif not quote and letter in " \t\n":
            words += [] if word is None else ["".join(word)]
            word = None
            continue
        elif not quote and letter in "'\"":
            quote = letter
            word = word or []
        elif letter == "\\" and at < len(text):
            plain, at = _unescape(text, at)
            word = [*(word or []), plain]
        else:
            word = word if word is not None else []
            word.append(letter)
    if quote:
        raise ValueError(f"unterminated {quote}")
    return words if word is None else [*words, "".join(word)]


def _unescape(text: str, at: int) -> tuple[str, int]:
    """The value of an escape, and the position after it. at: position after the backslash."""
    number = re.compile(r"x([0-9a-fA-F]{2})|([0-7]{3})").match(text, at)
    if number:
        return chr(int(number[1], 16) if number[1] else int(number[2], 8) & 0xFF), number.end()
    return _ESCAPES.get(text[at], text[at]), at + 1


def fill_in(words: list[str], variables: Mapping[str, str]) -> list[str]:
    """Expand known variables; a separate $NAME expands to several words. Unknown ones are kept as written."""
    filled: list[str] = []
    for word in words:
        alone = re.fullmatch(r"\$([A-Za-z_][A-Za-z0-9_]*)", word)
        if alone and alone[1] in variables:
            filled += variables[alone[1]].split()
        else:
            text = _VARIABLE.sub(lambda found: variables.get(found[1] or found[2], found[0]), word)
            filled.append(text.replace("$$", "$").replace("%%", "%"))
    return filled


def unknown_variable(text: str) -> str:
    """The first unexpanded variable in the text, as written; "" if there is none."""
    found = _VARIABLE.search(text)
    return found[0] if found else ""
