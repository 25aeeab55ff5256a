"""What did clients ask, when, and what were they told? The only evidence that the checkers may use."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tercet.errors import TercetError


class Kind(Enum):
    """`CAS` puts `value` if the key holds `expected` (None: if it is absent)."""

    GET = "get"
    PUT = "put"
    DELETE = "delete"
    CAS = "cas"


@dataclass(slots=True, eq=False)
class Operation:
    """One request of one client. Times are virtual microseconds."""

    client: int
    kind: Kind
    key: bytes
    called: int
    value: bytes | None = None
    expected: bytes | None = None
    returned: int | None = None  # None: no answer, so it may have taken effect, may do so later, or never
    found: bytes | None = None  # GET: what was read
    took_effect: bool = False  # DELETE: there was something to delete; CAS: it was put; PUT: always
    revision: int = 0  # of the answer's header
    mod_revision: int = 0  # GET: of the value that was read

    def __str__(self) -> str:
        what = f"{self.kind.value} {_text(self.key)}"
        if self.kind is Kind.CAS:
            what += f" {_text(self.expected)} ->"
        if self.kind in (Kind.PUT, Kind.CAS):
            what += f" {_text(self.value)}"
        if self.returned is None:
            return f"[{self.called}..?] client {self.client}: {what}: no answer"
        if self.kind is Kind.GET:
            answer = f"{_text(self.found)} of revision {self.mod_revision}"
        else:
            answer = "done" if self.took_effect else "not done"
        return f"[{self.called}..{self.returned}] client {self.client}: {what}: {answer}, at revision {self.revision}"


class HistoryViolation(TercetError):
    """Clients were told what no correct store could have told them."""


class Undecided(TercetError):
    """A history that would take too long to judge; neither good nor bad."""


def _text(value: bytes | None) -> str:
    return "nothing" if value is None else value.rstrip(b".").decode("utf-8", "backslashreplace")
