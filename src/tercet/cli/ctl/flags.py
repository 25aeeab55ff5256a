"""Flags, parsed as Go's pflag library parses them: scripts written for etcdctl depend on its rules.

    --limit 5   --limit=5   --prefix   --prefix=false   -w json   -wjson   -w=json   --   (no flags after it)
    --limit 0x10   --limit 1_000   --limit 010 (octal)
Flags and arguments may be mixed. A repeated flag replaces its value; a repeated list grows: `--endpoints a --endpoints b,c`.

Error texts are pflag's; an unknown flag also gets a suggestion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tercet.gotext.duration import format_duration, parse_duration
from tercet.gotext.strconv import parse_bool, parse_int, quote

Value = bool | int | str | list[str]


class FlagError(Exception):
    """An unknown flag, a missing value, or an invalid one. The text is for the user."""


class Flag(NamedTuple):
    """One flag. `kind` is bool, int, uint, string, duration (nanoseconds) or list; `default` has the matching type.

    choices: for completion, the values that make sense.
    """

    name: str
    kind: str
    default: Value
    help: str
    short: str = ""
    choices: tuple[str, ...] = ()

    @property
    def takes_value(self) -> bool:
        return self.kind != "bool"

    def parse(self, text: str) -> Value:
        """Raises ValueError with Go's reason."""
        return _PARSERS[self.kind](text)

    def show(self, value: Value) -> str:
        """The value as Go prints it, for help and --debug."""
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, list):
            return f"[{','.join(value)}]"
        return format_duration(int(value)) if self.kind == "duration" else str(value)


def _parse_int(text: str) -> int:
    return parse_int(text, 0)


def _parse_uint(text: str) -> int:
    return parse_int(text, 0, signed=False)


_PARSERS: Mapping[str, Callable[[str], Value]] = {
    "bool": parse_bool,
    "int": _parse_int,
    "uint": _parse_uint,
    "string": str,
    "duration": parse_duration,
    "list": lambda text: text.split(",") if text else [],
}


class Values:
    """The flags of one command line, with defaults. The typed accessors raise TypeError for a flag of another kind."""

    def __init__(self, flags: Sequence[Flag]) -> None:
        self.flags = {flag.name: flag for flag in flags}
        self.changed: set[str] = set()
        self.separated: list[str] | None = None  # the arguments after `--`, which are among the positional ones too
        self._values: dict[str, Value] = {flag.name: flag.default for flag in flags}

    def set(self, name: str, value: Value) -> None:
        if name in self.changed and isinstance(value, list):
            before = self._values[name]
            value = [*before, *value] if isinstance(before, list) else value
        self._values[name] = value
        self.changed.add(name)

    def shown(self, name: str) -> str:
        return self.flags[name].show(self._values[name])

    def bool(self, name: str) -> bool:
        return bool(self._values[name])

    def int(self, name: str) -> int:
        value = self._values[name]
        if not isinstance(value, int):
            raise TypeError(f"--{name} is not a number")
        return value

    def string(self, name: str) -> str:
        return str(self._values[name])

    def list(self, name: str) -> list[str]:
        value = self._values[name]
        if not isinstance(value, list):
            raise TypeError(f"--{name} is not a list")
        return value


def parse(flags: Sequence[Flag], arguments: Sequence[str]) -> tuple[Values, list[str]]:
    """The flags and the positional arguments of one command line. Raises FlagError."""
    values, positional = Values(flags), []
    shorts = {flag.short: flag for flag in flags if flag.short}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--":
            positional += rest
            values.separated = rest
            break
        if word.startswith("--"):
            _parse_long(values, word, rest)
        elif word.startswith("-") and word != "-":
            _parse_short(values, shorts, word, rest)
        else:
            positional.append(word)
    return values, positional


def _parse_long(values: Values, word: str, rest: list[str]) -> None:
    name, equals, text = word[2:].partition("=")
    if not name or name.startswith("-"):
        raise FlagError(f"bad flag syntax: {word}")
    flag = values.flags.get(name)
    if flag is None:
        raise FlagError(f"unknown flag: --{name}{_did_you_mean(name, values.flags)}")
    if not equals:
        if not flag.takes_value:
            values.set(name, True)
            return
        if not rest:
            raise FlagError(f"flag needs an argument: --{name}")
        text = rest.pop(0)
    _set(values, flag, text)


def _parse_short(values: Values, shorts: Mapping[str, Flag], word: str, rest: list[str]) -> None:
    """`-wjson`, `-w=json`, `-w json`, and several boolean flags in one word."""
    letters = word[1:]
    while letters:
        left, letter, letters = f"-{letters}", letters[0], letters[1:]
        flag = shorts.get(letter)
        if flag is None:
            hint = f"\n\nDid you mean --{word[1:]}?" if word[1:].partition("=")[0] in values.flags else ""
            raise FlagError(f"unknown shorthand flag: {letter!r} in {left}{hint}")
        if not flag.takes_value and not letters.startswith("="):
            values.set(flag.name, True)
            continue
        if letters:
            text = letters.removeprefix("=")
        elif rest:
            text = rest.pop(0)
        else:
            raise FlagError(f"flag needs an argument: {letter!r} in {left}")
        _set(values, flag, text)
        return


def _set(values: Values, flag: Flag, text: str) -> None:
    try:
        values.set(flag.name, flag.parse(text))
    except ValueError as error:
        shown = f"-{flag.short}, --{flag.name}" if flag.short else f"--{flag.name}"
        given = quote(text.encode("utf-8", "surrogateescape"))
        raise FlagError(f'invalid argument {given} for "{shown}" flag: {error}') from error


def _did_you_mean(name: str, known: Mapping[str, Flag]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=1) or [flag for flag in known if len(name) > 2 and flag.startswith(name)]
    return f"\n\nDid you mean --{near[0]}?" if near else ""
