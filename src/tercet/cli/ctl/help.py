"""Help pages. The layout is that of etcdctl: the same commands, flags, types and defaults in the same places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tercet.cli.ctl.command import HELP_FLAG, Command, Found
from tercet.cli.ctl.flags import Flag

_TYPES = {"bool": "", "int": "int", "uint": "uint", "string": "string", "duration": "duration", "list": "strings"}
_EMPTY = ("", 0, False)


def help_text(found: Found) -> str:
    """The output of --help."""
    command, root = found.command, found.path[0]
    sections = [(command.description and f"{command.summary}\n\n{command.description}") or command.summary]
    words = "[command]" if command.commands else f"{command.usage} [flags]".strip()
    sections.append(f"Usage:\n  {found.title} {words}")
    if command.examples:
        sections.append("Examples:\n" + _indent("\n".join(command.examples)))
    sections += _command_sections(command)
    own = [flag for part in found.path[1:] for flag in part.flags]
    if len(found.path) > 1:
        sections.append("Flags:\n" + flag_lines([HELP_FLAG, *own]))
    has_options = any(child.name == "options" for child in root.commands)
    if not has_options:
        sections.append("Global Flags:\n" + flag_lines(root.flags))
    more = [f'Use "{found.title} [command] --help" for more about a command.'] if command.commands else []
    more += [f'Use "{root.name} options" for the flags of all commands.'] if has_options else []
    if more:
        sections.append("\n".join(more))
    return "\n\n".join(sections) + "\n"


def _command_sections(command: Command) -> Iterator[str]:
    """The commands of a group, below their titles."""
    titles: dict[str, list[Command]] = {}
    for child in sorted(command.commands, key=lambda child: child.name):
        titles.setdefault(child.section or "Available Commands:", []).append(child)
    order = {title: at for at, title in enumerate(dict.fromkeys(child.section for child in command.commands))}
    for title in sorted(titles, key=lambda title: order.get(title, 0)):
        yield f"{title}\n" + _indent("\n".join(f"{child.name:<11} {child.summary}" for child in titles[title]))


def flag_lines(flags: Sequence[Flag]) -> str:
    """One line for each flag: names, type, meaning, default."""
    rows = []
    for flag in sorted(flags, key=lambda flag: flag.name):
        head = f"-{flag.short}, " if flag.short else "    "
        shown = f'"{flag.default}"' if flag.kind == "string" else flag.show(flag.default)
        default = "" if flag.default in _EMPTY else f" (default {shown})"
        rows.append((f"{head}--{flag.name} {_TYPES[flag.kind]}".rstrip(), flag.help + default))
    width = max(len(left) for left, _ in rows)
    return "\n".join(f"  {left:<{width}}   {right}".rstrip() for left, right in rows)


def _indent(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.splitlines())
