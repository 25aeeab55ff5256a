"""Lines of stdin for a command that also waits for the network: reading one must not block the event loop."""

from __future__ import annotations

import asyncio
import io
import os
from typing import BinaryIO

_CHUNK_BYTES = 1 << 16


class Lines:
    """`await next()` is the next line without its end, None at the end of the input; a last line without an end is dropped."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._buffered = b""

    async def next(self) -> str | None:
        while b"\n" not in self._buffered:
            chunk = await self._read()
            if not chunk:
                return None
            self._buffered += chunk
        line, _, self._buffered = self._buffered.partition(b"\n")
        return line.decode("utf-8", "surrogateescape")

    async def _read(self) -> bytes:
        try:
            descriptor = self._stream.fileno()
        except io.UnsupportedOperation:
            return self._stream.read()
        loop = asyncio.get_running_loop()
        readable: asyncio.Future[None] = loop.create_future()
        try:
            loop.add_reader(descriptor, _set, readable)
        except PermissionError:  # a regular file is always readable
            return os.read(descriptor, _CHUNK_BYTES)
        try:
            await readable
        finally:
            loop.remove_reader(descriptor)
        return os.read(descriptor, _CHUNK_BYTES)


def _set(readable: asyncio.Future[None]) -> None:
    if not readable.done():
        readable.set_result(None)
