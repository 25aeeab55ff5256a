"""The tree of commands: lookup by name or unambiguous prefix, and suggestions.

Flags may precede, separate and follow the words of a command: `tercetctl --endpoints a:1 mem li -w json`.
A command may name the module that defines it, which is imported when the command is used: a line needs only its own command.
Source: the behaviour of etcdctl's command library (cobra, with prefix matching).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Sequence
from importlib import import_module
from typing import Any, NamedTuple

from tercet.cli.ctl.flags import Flag

Run = Callable[[Any, list[str]], Coroutine[Any, Any, None] | None]
"""Takes the Session, which knows the tree and so cannot be known here, and the arguments. A command that waits for nothing is
a plain function, and runs without an event loop."""

HELP_FLAG = Flag("help", "bool", False, "show this page", short="h")
_DISTANCE_MAX = 2  # of a suggestion from the word given


class UnknownCommand(Exception):
    """No such command; the text suggests similar ones."""


class Command(NamedTuple):
    """A command, or a group of commands: a group has no `run`, and its commands inherit its `flags`.

    usage: what follows the name: "[options] <key> [range_end]". section: the title that the root's help lists it under.
    module: where the full command is defined, as `package.module:CONSTANT`; "" if this is it.
    is_extra: etcdctl does not have it, so it never makes an abbreviation ambiguous that etcdctl understands: `t` is txn.
    """

    name: str
    summary: str
    usage: str = ""
    flags: tuple[Flag, ...] = ()
    run: Run | None = None
    commands: tuple[Command, ...] = ()
    description: str = ""
    examples: tuple[str, ...] = ()
    section: str = ""
    module: str = ""
    is_extra: bool = False

    def loaded(self) -> Command:
        """The full command."""
        if not self.module:
            return self
        module, _, constant = self.module.partition(":")
        command: Command = getattr(import_module(module), constant)
        return command

    def child(self, word: str) -> Command | None:
        """The subcommand named `word`, or the only one with that prefix."""
        for command in self.commands:
            if command.name == word:
                return command.loaded()
        matching = [command for command in self.commands if word and command.name.startswith(word)]
        near = [command for command in matching if not command.is_extra] or matching
        return near[0].loaded() if len(near) == 1 else None

    def leaves(self, path: str = "") -> Iterator[tuple[str, Command]]:
        """All runnable commands with their full names, sorted."""
        for child in sorted(self.commands, key=lambda command: command.name):
            command = child.loaded()
            name = f"{path} {command.name}".strip()
            if command.run is not None:
                yield name, command
            yield from command.leaves(name)


class Found(NamedTuple):
    """The command of a line: its path from the root (root first), and the remaining arguments.

    unknown: the word after a group that names none of its commands; etcdctl then shows the group's help.
    """

    path: tuple[Command, ...]
    arguments: list[str]
    wants_help: bool = False  # `help put`
    unknown: str = ""

    @property
    def command(self) -> Command:
        return self.path[-1]

    @property
    def title(self) -> str:
        return " ".join(command.name for command in self.path)

    @property
    def flags(self) -> list[Flag]:
        return [HELP_FLAG, *(flag for command in reversed(self.path) for flag in command.flags)]


def find(root: Command, arguments: Sequence[str]) -> Found:
    """Find the command that a line names. Raises UnknownCommand for a first word that names none."""
    path, rest = [root], list(arguments)
    wants_help = False
    unknown = ""
    while path[-1].commands:
        at = _first_word(path, rest)
        if at is None:
            break
        if rest[at] == "help":
            wants_help = True
            del rest[at]
            continue
        child = path[-1].child(rest[at])
        if child is None:
            if len(path) == 1 and not wants_help:
                raise UnknownCommand(unknown_text(path, rest[at]))
            unknown = rest[at]
            break
        path.append(child)
        del rest[at]
    return Found(tuple(path), rest, wants_help, unknown)


def _first_word(path: Sequence[Command], words: Sequence[str]) -> int | None:
    """The position of the first word that is no flag and no flag's value.

    An unknown flag is taken to have a value, as in cobra.
    """
    flags = [HELP_FLAG, *(flag for command in path for flag in command.flags)]
    switches = {f"--{flag.name}" for flag in flags if not flag.takes_value}
    switches |= {f"-{flag.short}" for flag in flags if flag.short and not flag.takes_value}
    at = 0
    while at < len(words):
        word = words[at]
        if word == "--":
            return None
        if not word.startswith("-") or word == "-":
            return at
        has_value = "=" not in word and word not in switches and (word.startswith("--") or len(word) == 2)
        at += 2 if has_value else 1
    return None


def unknown_text(path: Sequence[Command], word: str) -> str:
    """etcdctl's text for an unknown command, with similar ones."""
    title = " ".join(command.name for command in path)
    near = similar(word, [command.name for command in path[-1].commands if not command.is_extra and command.name != "help"])
    # Commands that etcdctl lacks are suggested only if closer, so that its own suggestions stay as they are.
    near += [command.name for command in path[-1].commands if command.is_extra and _distance(word.lower(), command.name) <= 1]
    hint = "\n\nDid you mean this?\n" + "".join(f"\t{name}\n" for name in near) if near else ""
    return f'unknown command "{word}" for "{title}"{hint}\nRun \'{title} --help\' for usage.'


def similar(word: str, names: Sequence[str]) -> list[str]:
    """The names that begin with `word` or differ from it in at most two letters."""
    return [name for name in names if name.startswith(word.lower()) or _distance(word.lower(), name) <= _DISTANCE_MAX]


def _distance(left: str, right: str) -> int:
    """Levenshtein's: the fewest insertions, deletions and replacements of a letter."""
    row = list(range(len(right) + 1))
    for number, letter in enumerate(left, 1):
        before, row[0] = row[0], number
        for at, other in enumerate(right, 1):
            before, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, before + (letter != other))
    return row[-1]
