"""The flags on etcd's command line in a unit, and those that its Environment= sets as ETCD_... variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tercet.deploy.cluster.server_facts import KNOWN, Kind

_SECRET_WORDS = ("pass", "secret", "token", "credential")
_VARIABLES = {flag.variable: name for name, flag in KNOWN.items()}


@dataclass
class CommandFlags:
    """values: by name, the last one given. strangers: words that are no flag of etcd, as written."""

    values: dict[str, str] = field(default_factory=dict)
    strangers: list[str] = field(default_factory=list)

    def take(self, name: str, default: str = "") -> str:
        """The value, which then counts as dealt with."""
        return self.values.pop(name, default)


def read_flags(words: Sequence[str], variables: Mapping[str, str]) -> CommandFlags:
    """words: behind the program. A flag may be written -name=x, --name=x or --name x; a boolean takes its value after `=`."""
    flags = CommandFlags({_VARIABLES[name]: value for name, value in variables.items() if name in _VARIABLES})
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        name, equals, value = word.lstrip("-").partition("=")
        if not word.startswith("-") or not name:
            flags.strangers.append(word)
            continue
        known = KNOWN.get(name)
        has_next = bool(waiting) and not waiting[0].startswith("-")
        if not equals and known is not None and known.kind is Kind.BOOL:
            value = "true"
        elif not equals and has_next:
            value = waiting.pop(0)
        if known is None:
            flags.strangers.append(shown(name, value))
        else:
            flags.values[name] = value
    return flags


def shown(name: str, value: str) -> str:
    """The flag for people to read; never a password."""
    if any(word in name.lower() for word in _SECRET_WORDS):
        return f"--{name}=..."
    return f"--{name}={value}" if value else f"--{name}"


def other_variables(variables: Mapping[str, str]) -> list[str]:
    """Names of the variables that are no flags of etcd."""
    return [name for name in variables if name not in _VARIABLES]
