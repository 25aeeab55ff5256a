"""The error of a failed step on a host: host, step, cause and remedy."""

from __future__ import annotations

from tercet.errors import TercetError


class HostError(TercetError):
    """A step on a host failed.

    str() is "host: step: text; remedy", on several lines if the text includes output.
    """

    def __init__(self, host: str, step: str, text: str, *, remedy: str = "") -> None:
        self.host = host
        self.step = step
        self.text = text
        self.remedy = remedy
        separator = "\n" if "\n" in text else "; "
        self.without_host = f"{step}: {text}" + (separator + remedy if remedy else "")
        """For output that names the host itself."""
        super().__init__(f"{host}: {self.without_host}")
