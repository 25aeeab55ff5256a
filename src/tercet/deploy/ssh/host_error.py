"""What goes wrong on a host, in one form: which host, which step, what happened, and what the operator can do about it."""

from __future__ import annotations

from tercet.errors import TercetError


class HostError(TercetError):
    """A step on a host failed.

    str() is one text of "host: step: what happened; what to do", over several lines where there is output to show.
    """

    def __init__(self, host: str, step: str, text: str, *, remedy: str = "") -> None:
        self.host = host
        self.step = step
        self.text = text
        self.remedy = remedy
        separator = "\n" if "\n" in text else "; "
        super().__init__(f"{host}: {step}: {text}" + (separator + remedy if remedy else ""))
