"""A TCP connection to an endpoint: names are resolved at each dial, and the addresses are tried in an overlapping race.

    fe80::1, 10.0.0.1, fe80::2    IPv6 and IPv4 alternate; the next one starts when 250 ms have passed, or the last has failed

The first that connects wins; the others are closed. Under TLS the handshake follows on the winner.
Source: RFC 8305 (Happy Eyeballs), sections 4 and 5. Departs in: one lookup for both families.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import NamedTuple

_DELAY_SECONDS = 0.25


class Address(NamedTuple):
    """What a socket is made of, and connected to."""

    family: int
    sockaddr: tuple[object, ...]


async def dial(host: str, port: int, *, timeout: float) -> socket.socket:
    """A connected socket, not blocking. timeout: seconds for each address. Raises OSError, TimeoutError."""
    loop = asyncio.get_running_loop()
    found = _numeric(host, port) or await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return await race(interleaved([Address(family, address) for family, _, _, _, address in found]), timeout=timeout)


def _numeric(host: str, port: int) -> list[tuple[int, int, int, str, tuple[object, ...]]]:
    """The addresses of a numeric `host`, without a lookup and its thread; empty for a name."""
    try:
        # Bytes: of a str the module makes IDNA, whose tables take longer to load than everything else here.
        return list(socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST))
    except (UnicodeEncodeError, OSError):
        return []


def interleaved(addresses: Sequence[Address]) -> list[Address]:
    """The families in turn, beginning with that of the first address."""
    first = [one for one in addresses if one.family == addresses[0].family]
    others = [one for one in addresses if one.family != addresses[0].family]
    return [one for one in chain.from_iterable(zip_longest(first, others)) if one is not None]


async def race(addresses: Sequence[Address], *, timeout: float, delay: float = _DELAY_SECONDS) -> socket.socket:
    """Raises the error of the first address if all fail."""
    waiting = deque(addresses)
    running: dict[asyncio.Task[socket.socket], Address] = {}
    errors: dict[Address, OSError] = {}
    try:
        while waiting or running:
            if waiting:
                address = waiting.popleft()
                running[asyncio.create_task(_connect(address, timeout))] = address
            done, _ = await asyncio.wait(running, timeout=delay if waiting else None, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                address = running.pop(task)
                try:
                    return task.result()
                except OSError as error:
                    errors[address] = error
    finally:
        await _discard(running)
    raise errors[addresses[0]]


async def _connect(address: Address, timeout: float) -> socket.socket:
    made = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        # asyncio sets it only on sockets with an explicit protocol number. A lone call otherwise waits 40 ms: the session's
        # acknowledgements of pings and windows are not acknowledged at once, and Nagle's algorithm holds the next request back.
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.timeout(timeout):
            await asyncio.get_running_loop().sock_connect(made, address.sockaddr)
    except BaseException as error:
        made.close()
        if isinstance(error, OSError) and error.errno:
            raise type(error)(error.errno, os.strerror(error.errno)) from error  # without the loop's words
        raise
    return made


async def _discard(tasks: dict[asyncio.Task[socket.socket], Address]) -> None:
    """Cancel connection attempts; close those that have succeeded meanwhile."""
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError, OSError):
            (await task).close()
