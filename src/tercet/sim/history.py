"""The clients' history: what each requested and when, and the reply it got. The checkers judge a run by it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from tercet.auth import NOBODY, Identity
from tercet.errors import StatusError, TercetError


class Kind(Enum):
    """`CAS` puts `value` if the key holds `expected` (None: if it is absent). `REQUEST`: any other, see `Operation.request`."""

    GET = "get"
    PUT = "put"
    DELETE = "delete"
    CAS = "cas"
    REQUEST = "request"


@dataclass(slots=True, eq=False)
class Operation:
    """One request of one client. Times are virtual microseconds."""

    client: int
    kind: Kind
    key: bytes
    called: int
    value: bytes | None = None
    expected: bytes | None = None
    returned: int | None = None  # None: no reply, so it may have taken effect, may do so later, or never
    found: bytes | None = None  # GET: the value read
    took_effect: bool = False  # DELETE: the key existed; CAS: the value was put; PUT: always
    revision: int = 0  # of the reply's header
    mod_revision: int = 0  # GET: of the value read
    request: Any = None  # REQUEST: the message
    response: Any = None  # REQUEST: the message without its header
    error: StatusError | None = None  # REQUEST: the error it was answered with
    is_serializable: bool = False  # REQUEST: it may see an old state
    username: str = ""
    token_revision: int = 0  # the auth revision of a signed token; 0: the token has none
    identity: Identity = NOBODY  # the caller as the member knew it
    auth: tuple[int, bool] | None = None  # auth revision and flag of the member when it decided

    def __str__(self) -> str:
        if self.kind is Kind.REQUEST:
            return self._request_text()
        what = f"{self.kind.value} {_text(self.key)}"
        if self.kind is Kind.CAS:
            what += f" {_text(self.expected)} ->"
        if self.kind in (Kind.PUT, Kind.CAS):
            what += f" {_text(self.value)}"
        if self.returned is None:
            return f"[{self.called}..?] client {self.client}: {what}: no reply"
        if self.kind is Kind.GET:
            reply = f"{_text(self.found)} of revision {self.mod_revision}"
        else:
            reply = "done" if self.took_effect else "not done"
        return f"[{self.called}..{self.returned}] client {self.client}: {what}: {reply}, at revision {self.revision}"

    def _request_text(self) -> str:
        text = f"[{self.called}..{self.returned or '?'}] client {self.client}: {type(self.request).__name__} {self.request}"
        if self.username:
            text = f"{text} as {self.identity}, auth {self.auth}"
        result = self.error or self.response
        return " ".join(f"{text} -> {result}, at revision {self.revision}".split())


class HistoryViolation(TercetError):
    """The clients' history contradicts the guarantees of the store."""


class Undecided(TercetError):
    """A history that would take too long to check."""


def _text(value: bytes | None) -> str:
    return "nothing" if value is None else value.rstrip(b".").decode("utf-8", "backslashreplace")
