"""TCP ports for processes that must know their port before they start.

Binding port 0, closing the socket and passing the number on is a race: any outgoing connection may get the port meanwhile.
So ports are taken below the ephemeral range (32768 on Linux), from a block that this process holds by a lock file; processes
that run tests at the same time, of any checkout, hold other blocks. A server in the test's own process should bind port 0 and
read the port back instead.
"""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from pathlib import Path

HOST = "127.0.0.1"
_FIRST, _LAST = 10_000, 32_000
_BLOCK = 250
_LOCKS = Path(tempfile.gettempdir()) / f"tercet-test-ports-{os.getuid()}"


class _Block:
    """A range of ports that no other test process uses, handed out in turn."""

    def __init__(self) -> None:
        self._ports, self._lock = self._acquire()
        self._pid = os.getpid()
        self._next = 0

    @staticmethod
    def _acquire() -> tuple[range, int]:
        _LOCKS.mkdir(exist_ok=True)
        for first in range(_FIRST, _LAST, _BLOCK):
            lock = os.open(_LOCKS / str(first), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            return range(first, min(first + _BLOCK, _LAST)), lock  # held until this process ends
        raise RuntimeError(f"every block of ports is in use; see {_LOCKS}")

    def take(self) -> int:
        for _ in self._ports:
            port = self._ports[self._next % len(self._ports)]
            self._next += 1
            if _is_free(port):
                return port
        raise RuntimeError(f"no free port in {self._ports}")

    @property
    def is_ours(self) -> bool:
        return self._pid == os.getpid()  # False in a fork, which would hand out the same ports


_blocks: list[_Block] = []


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens."""
    if not _blocks or not _blocks[-1].is_ours:
        _blocks.append(_Block())
    return _blocks[-1].take()


def free_ports(count: int) -> list[int]:
    """`count` different ports."""
    return [free_port() for _ in range(count)]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
