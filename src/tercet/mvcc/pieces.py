"""An encoded answer in the making: many small pieces, joined in slices, so that its parts are few and large and sent without
a copy (rpc/http2_unary.py). To send a million pieces would take half a second of one turn.
"""

from __future__ import annotations

from typing import Final

JOINED_BYTES: Final = 64 << 10  # larger pieces stay as they are


class Pieces:
    """parts: what has been added, up to the last `join`."""

    __slots__ = ("_small", "_small_bytes", "parts")

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self._small: list[bytes] = []
        self._small_bytes = 0

    def add(self, piece: bytes) -> None:
        size = len(piece)
        if size > JOINED_BYTES:
            self.join()
            self.parts.append(piece)
            return
        self._small.append(piece)
        self._small_bytes += size
        if self._small_bytes > JOINED_BYTES:
            self.join()

    def join(self) -> None:
        """Bring all that has been added into `parts`."""
        if self._small:
            self.parts.append(b"".join(self._small))
            self._small = []
            self._small_bytes = 0
