"""The peer URL at which to try a member: the one that worked last, the next one after each failure."""

from __future__ import annotations

from collections.abc import Sequence

from tercet.http1.origin import Origin, parse_origin


class UrlPicker:
    """The URL to try now; shared by all that talk to one member, so that each learns from the failures of the others."""

    __slots__ = ("_origins", "_picked")

    def __init__(self, urls: Sequence[str]) -> None:
        self.update(urls)

    def update(self, urls: Sequence[str]) -> None:
        """Raises ValueError for an empty list or a bad URL, and then keeps the old ones."""
        origins = [parse_origin(url) for url in urls]
        if not origins:
            raise ValueError("a member needs at least one peer URL")
        self._origins = origins
        self._picked = 0

    def pick(self) -> Origin:
        return self._origins[self._picked]

    def unreachable(self, origin: Origin) -> None:
        """Move on to the next URL, unless another sharer already did."""
        if self._origins[self._picked] == origin:
            self._picked = (self._picked + 1) % len(self._origins)
