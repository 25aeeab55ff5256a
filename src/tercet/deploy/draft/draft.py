"""A cluster file in the making: what an importer found, or what the operator said, before it is text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

Setting: TypeAlias = str | int | bool
CLUSTER_NAME = "etcd-cluster"


def printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)


@dataclass
class Draft:
    """settings: by section and field, "" for the top level; only what differs from the defaults need be there.

    notes: what a reader of the file must know and no field can say, a sentence each.
    """

    name: str = CLUSTER_NAME
    hosts: list[tuple[str, str]] = field(default_factory=list)
    """(name, address) of each member."""
    settings: dict[str, dict[str, Setting]] = field(default_factory=dict)
    flags: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def set(self, section: str, name: str, value: Setting) -> None:
        self.settings.setdefault(section, {})[name] = value

    def note(self, text: str) -> None:
        """Whatever stands in somebody's file may not end the comment that tells of it."""
        text = printable(text)
        if text not in self.notes:
            self.notes.append(text)


@dataclass(frozen=True)
class Imported:
    """text: of a cluster.yaml. notes: what it could not take over and why; they stand in the text as comments too."""

    text: str
    notes: tuple[str, ...]
