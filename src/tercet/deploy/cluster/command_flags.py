"""Flags of etcd in a unit: on the command line, and as ETCD_... variables in Environment=."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tercet.deploy.cluster.server_facts import KNOWN, Kind

_SECRET_WORDS = ("pass", "secret", "token", "credential")
_VARIABLES = {flag.variable: name for name, flag in KNOWN.items()}


@dataclass
class CommandFlags:
    """values: by name; the last one counts. unknown: arguments that are not flags of etcd, as written."""

    values: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)

    def take(self, name: str, default: str = "") -> str:
        """Return and remove a value."""
        return self.values.pop(name, default)


def read_flags(words: Sequence[str], variables: Mapping[str, str]) -> CommandFlags:
    """words: the arguments. Accepts -name=x, --name=x and --name x; a boolean takes its value only after `=`."""
    flags = CommandFlags({_VARIABLES[name]: value for name, value in variables.items() if name in _VARIABLES})
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        name, equals, value = word.lstrip("-").partition("=")
        if not word.startswith("-") or not name:
            flags.unknown.append(word)
            continue
        known = KNOWN.get(name)
        has_next = bool(waiting) and not waiting[0].startswith("-")
        if not equals and known is not None and known.kind is Kind.BOOL:
            value = "true"
        elif not equals and has_next:
            value = waiting.pop(0)
        if known is None:
            flags.unknown.append(shown(name, value))
        else:
            flags.values[name] = value
    return flags


def shown(name: str, value: str) -> str:
    """The flag for messages, without secrets."""
    if any(word in name.lower() for word in _SECRET_WORDS):
        return f"--{name}=..."
    return f"--{name}={value}" if value else f"--{name}"


def other_variables(variables: Mapping[str, str]) -> list[str]:
    """Names of the variables that are not flags of etcd."""
    return [name for name in variables if name not in _VARIABLES]
