"""A transport in memory, which remembers whether its protocol reads from it."""

from __future__ import annotations

import asyncio
from typing import Any


class Wire(asyncio.Transport):
    """written: what the protocol has sent."""

    def __init__(self) -> None:
        super().__init__()
        self.is_reading_now = True
        self.is_aborted = False
        self.written: list[bytes] = []

    def pause_reading(self) -> None:
        self.is_reading_now = False

    def resume_reading(self) -> None:
        self.is_reading_now = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return self.is_aborted

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        self.is_aborted = True

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None: ...

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default
