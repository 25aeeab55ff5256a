"""A draft: the settings found by an importer or given by the operator, before they are rendered as a cluster file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

Setting: TypeAlias = str | int | bool | dict[str, str]
CLUSTER_NAME = "etcd-cluster"


def printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)


@dataclass
class Draft:
    """settings: by section and field, "" for the top level; defaults may be omitted.

    notes: sentences for the reader of the file about what the fields cannot express.
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
        """Add a note. Control characters of the input are replaced, so that they cannot end the comment."""
        text = printable(text)
        if text not in self.notes:
            self.notes.append(text)


@dataclass(frozen=True)
class Imported:
    """text: of a cluster.yaml. notes: what could not be imported, and why; also in the text as comments."""

    text: str
    notes: tuple[str, ...]
