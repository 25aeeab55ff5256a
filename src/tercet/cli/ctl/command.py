"""The tree of commands: lookup by name or unambiguous prefix, suggestions, help pages.

Flags may precede, separate and follow the words of a command: `tercetctl --endpoints a:1 mem li -w json`.
Source: the behaviour of etcdctl's command library (cobra, with prefix matching).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from tercet.cli.ctl.flags import Flag

if TYPE_CHECKING:
    from tercet.cli.ctl.session import Session

Run = Callable[["Session", list[str]], Awaitable[None]]

HELP_FLAG = Flag("help", "bool", False, "help for this command", short="h")


class UnknownCommand(Exception):
    """No such command; the text suggests similar ones."""


@dataclass(frozen=True)
class Command:
    """A command, or a group of commands: a group has no `run`, and its commands inherit its `flags`."""

    name: str
    summary: str
    usage: str = ""  # what follows the name: "[options] <key> [range_end]"
    flags: tuple[Flag, ...] = ()
    run: Run | None = None
    commands: tuple[Command, ...] = ()
    description: str = ""
    examples: tuple[str, ...] = ()

    def child(self, word: str) -> Command | None:
        """The subcommand named `word`, or the only one with that prefix."""
        for command in self.commands:
            if command.name == word:
                return command
        near = [command for command in self.commands if word and command.name.startswith(word)]
        return near[0] if len(near) == 1 else None

    def leaves(self, path: str = "") -> Iterator[tuple[str, Command]]:
        """All runnable commands with their full names, sorted."""
        for command in sorted(self.commands, key=lambda command: command.name):
            name = f"{path} {command.name}".strip()
            if command.run is not None:
                yield name, command
            yield from command.leaves(name)


@dataclass(frozen=True)
class Found:
    """The command of a line: its path from the root (root first), and the remaining arguments."""

    path: tuple[Command, ...]
    arguments: list[str]
    wants_help: bool = False  # `help put`

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
    """Find the command that a line names. Raises UnknownCommand."""
    valued = _flags_with_values(root)
    path, rest = [root], list(arguments)
    wants_help = False
    at = 0
    while at < len(rest):
        word = rest[at]
        if word == "--":
            break
        if word.startswith("-") and word != "-":
            at += 2 if word in valued else 1
            continue
        if word == "help" and path[-1].commands:
            wants_help = True
            del rest[at]
            continue
        child = path[-1].child(word)
        if child is None:
            if not path[-1].commands:
                break
            if path[-1] is root or path[-1].run is None:
                raise UnknownCommand(unknown(path, word))
            break
        path.append(child)
        del rest[at]
    return Found(tuple(path), rest, wants_help)


def unknown(path: Sequence[Command], word: str) -> str:
    """etcdctl's text for an unknown command, with up to three suggestions."""
    title = " ".join(command.name for command in path)
    names = [command.name for command in path[-1].commands]
    near = [name for name in names if word and name.startswith(word)] or get_close_matches(word, names, n=3, cutoff=0.5)
    suggestions = "".join(f"\t{name}\n" for name in near)
    hint = f"\n\nDid you mean this?\n{suggestions}" if near else ""
    return f'unknown command "{word}" for "{title}"{hint}\nRun \'{title} --help\' for usage.'


def _flags_with_values(root: Command) -> set[str]:
    """Flags of all commands that consume the next word, as in `-w json`. A flag has the same kind in every command."""
    words: set[str] = set()
    for command in (root, *_descendants(root)):
        for flag in command.flags:
            if flag.takes_value:
                words |= {f"--{flag.name}", f"-{flag.short}"} if flag.short else {f"--{flag.name}"}
    return words


def _descendants(command: Command) -> Iterator[Command]:
    for child in command.commands:
        yield child
        yield from _descendants(child)


def help_text(found: Found) -> str:
    """The output of --help."""
    command, root = found.command, found.path[0]
    sections = [("NAME", f"{found.title} - {command.summary}")]
    words = command.usage or ("<command> [flags]" if command.commands else "[flags]")
    sections.append(("USAGE", f"{found.title} {words}"))
    if command.description:
        sections.append(("DESCRIPTION", command.description))
    if command.examples:
        sections.append(("EXAMPLES", "\n".join(command.examples)))
    if command.commands:
        leaves = [(name, leaf.summary) for name, leaf in command.leaves()]
        sections.append(("COMMANDS", _columns(leaves)))
    own = [HELP_FLAG, *(flag for part in found.path[1:] for flag in part.flags)]
    sections.append(("OPTIONS", _flag_lines(own)))
    sections.append(("GLOBAL OPTIONS", _flag_lines(root.flags)))
    return "\n\n".join(f"{head}:\n" + _indent(body) for head, body in sections) + "\n"


def _flag_lines(flags: Sequence[Flag]) -> str:
    rows = []
    for flag in sorted(flags, key=lambda flag: flag.name):
        shown = flag.show(flag.default)
        default = f"[={shown}]" if flag.kind == "bool" else f'="{shown}"' if flag.kind == "string" else f"={shown}"
        head = f"-{flag.short}, " if flag.short else "    "
        rows.append((f"{head}--{flag.name}{default}", flag.help))
    return _columns(rows)


def _columns(rows: Sequence[tuple[str, str]]) -> str:
    width = max(len(left) for left, _ in rows)
    return "\n".join(f"{left:<{width}}  {right}".rstrip() for left, right in rows)


def _indent(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.splitlines())
