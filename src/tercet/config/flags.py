"""Flags and their values, parsed by the rules of Go's `flag` package.

    -name x    --name x    -name=x    --name=x    --pre-vote    --pre-vote=false

A boolean takes a value only after `=`. The last of repeated flags wins. Parsing stops at the first argument that is not a
flag. The flags themselves are the rows of `flag_table`, the only place that knows their names, types and defaults.

Source: Go's flag and strconv packages, for syntax and error texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import NamedTuple, TypeAlias

from tercet.config.feature_gates import parse_gates
from tercet.gotext.duration import parse_duration
from tercet.gotext.strconv import GoRangeError, GoSyntaxError, parse_bool, parse_int
from tercet.gotext.urls import Url, parse_url, parse_urls

Value: TypeAlias = str | bool | int | tuple[str, ...] | tuple[Url, ...] | Mapping[str, bool]


class Kind(Enum):
    """The type of a flag; the value is its name in help and docs."""

    STRING = "string"
    BOOL = "bool"
    UINT = "uint"
    UINT32 = "uint32"
    INT = "int"
    DURATION = "duration"
    URLS = "URLs"
    ORIGINS = "origins"
    SET = "set"
    """Comma-separated; trimmed, deduplicated and sorted."""
    LIST = "list"
    """Comma-separated, as given."""
    CHOICE = "choice"
    GATES = "gates"


class Support(Enum):
    """What setting a flag does in this version."""

    WORKS = "works"
    IGNORED = "ignored"
    """It is accepted with a warning and has no effect."""
    REFUSED = "refused"
    """The member does not start; on the command line, as with a flag that does not exist."""


class Flag(NamedTuple):
    """One row of the table.

    path: keys of the value in a config file, outermost first; empty if a file cannot set it.
    go_type: the type that etcd names when the file holds another type under this key.
    """

    name: str
    kind: Kind
    default: str
    help: str
    group: str = ""
    path: tuple[str, ...] = ()
    go_type: str = ""
    choices: tuple[str, ...] = ()
    support: Support = Support.WORKS
    reason: str = ""
    """Why the flag has no effect, or is refused."""

    @property
    def is_used(self) -> bool:
        return self.support is Support.WORKS

    @property
    def field(self) -> str:
        """The attribute of ServerConfig; durations have the suffix `_seconds`."""
        name = self.name.replace("-", "_")
        return f"{name}_seconds" if self.kind is Kind.DURATION else name

    @property
    def variable(self) -> str:
        return "ETCD_" + self.name.upper().replace("-", "_")

    def parse(self, text: str) -> Value:
        """Raises ValueError with etcd's reason."""
        return _parse(self, text)


class Retired(NamedTuple):
    """A flag of older etcd versions, accepted with a warning so that old unit files keep working.

    now, gate: the flag or feature gate that replaced it. Neither: the flag has no effect.
    """

    name: str
    kind: Kind
    now: str = ""
    gate: str = ""
    choices: tuple[str, ...] = ()

    @property
    def variable(self) -> str:
        return "ETCD_" + self.name.upper().replace("-", "_")

    def parse(self, text: str) -> Value:
        return _parse(self, text)

    @property
    def warning(self) -> str:
        if self.now:
            return f"--{self.name} is an older name; use --{self.now} instead"
        if self.gate:
            return f"--{self.name} is an older name; use --feature-gates={self.gate}=true instead"
        return f"--{self.name} was removed from etcd and has no effect"


class UsageError(Exception):
    """A command line that does not parse: etcd prints one line and the usage, and exits with code 2."""


class HelpRequested(Exception):
    """-h or --help, which are not flags of the table."""


_BITS = {Kind.UINT: 64, Kind.UINT32: 32, Kind.INT: 64}


def _parse(flag: Flag | Retired, text: str) -> Value:
    match flag.kind:
        case Kind.STRING:
            return text
        case Kind.BOOL:
            return _parse_bool(text)
        case Kind.UINT | Kind.UINT32 | Kind.INT:
            return _parse_integer(flag.kind, text)
        case Kind.DURATION:
            return _parse_flag_duration(text)
        case Kind.URLS:
            return parse_urls(text) if text else ()
        case Kind.ORIGINS:
            return _parse_origins(text)
        case Kind.SET:
            return tuple(sorted({part.strip() for part in text.split(",")})) if text else ()
        case Kind.LIST:
            return tuple(text.split(",")) if text else ()
        case Kind.CHOICE:
            if text not in flag.choices:
                raise ValueError(f'invalid value "{text}"' if flag.name == "v2-deprecation" else "invalid value")  # as in etcd
            return text
        case Kind.GATES:
            return parse_gates(text)


def _parse_bool(text: str) -> bool:
    """Go's flag package replaces the texts of strconv by shorter ones, here and below."""
    try:
        return parse_bool(text)
    except GoSyntaxError as error:
        raise ValueError("parse error") from error


def _parse_integer(kind: Kind, text: str) -> int:
    try:
        return parse_int(text, 0, _BITS[kind], signed=kind is Kind.INT)
    except GoSyntaxError as error:
        if kind is Kind.UINT32:  # a flag type of etcd's own, which keeps the text of strconv
            raise
        raise ValueError("value out of range" if isinstance(error, GoRangeError) else "parse error") from error


def _parse_flag_duration(text: str) -> int:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise ValueError("parse error") from error


def _parse_origins(text: str) -> tuple[str, ...]:
    """Origins allowed by CORS: `*`, or URLs."""
    return (text,) if text == "*" else tuple(sorted({parse_url(part).text for part in text.split(",")}))


def read_command_line(
    arguments: Sequence[str], known: Mapping[str, Flag | Retired], ignored: Iterable[str]
) -> tuple[dict[str, Value], list[str]]:
    """(values by flag, remaining arguments).

    Raises UsageError with Go's text, and a suggestion for a misspelt flag; HelpRequested.
    """
    unread = frozenset(ignored)
    values: dict[str, Value] = {}
    position = 0
    while position < len(arguments):
        word = arguments[position]
        if len(word) < 2 or word[0] != "-":
            break
        position += 1
        if word == "--":
            break
        name, given = _split_flag(word)
        flag = known.get(name)
        if flag is None and name not in unread:
            if name in ("h", "help"):
                raise HelpRequested
            raise UsageError(_unknown(name, [*known, *unread]))
        if isinstance(flag, Flag) and flag.support is Support.REFUSED:
            raise UsageError(f"flag provided but not defined: -{name}\n{flag.reason}")
        if flag is not None and flag.kind is Kind.BOOL:
            values[name] = _bool_value(flag, given)
            continue
        if given is None and name not in unread:
            if position == len(arguments):
                raise UsageError(f"flag needs an argument: -{name}")
            given, position = arguments[position], position + 1
        if flag is not None:
            values[name] = _value(flag, given or "")
    return values, list(arguments[position:])


def _split_flag(word: str) -> tuple[str, str | None]:
    body = word[2:] if word.startswith("--") else word[1:]
    if not body or body[0] in "-=":
        raise UsageError(f"bad flag syntax: {word}")
    name, equals, given = body.partition("=")
    return name, given if equals else None


def _bool_value(flag: Flag | Retired, given: str | None) -> bool:
    try:
        return True if given is None else _parse_bool(given)
    except ValueError as error:
        raise UsageError(f'invalid boolean value "{given}" for -{flag.name}: {error}') from error


def _value(flag: Flag | Retired, given: str) -> Value:
    if not given and isinstance(flag, Flag):
        if flag.kind is Kind.URLS:
            return flag.parse(flag.default)
        if flag.kind in (Kind.SET, Kind.LIST):
            return ("",)  # one empty text, as in etcd: a list of allowed names that is given empty allows none
    try:
        return flag.parse(given)
    except ValueError as error:
        raise UsageError(f'invalid value "{given}" for flag -{flag.name}: {error}') from error


def _unknown(name: str, names: list[str]) -> str:
    import difflib

    text = f"flag provided but not defined: -{name}"
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.75)
    return f"{text}\ndid you mean --{near[0]}?" if near else text
