"""The socket to which a server process says that it is ready ($NOTIFY_SOCKET of sd_notify(3))."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
import tempfile
import time
from typing import Final

# Only Linux has abstract addresses, which need no file.
_HAS_ABSTRACT: Final = sys.platform.startswith("linux")


class ReadySocket:
    """address: what $NOTIFY_SOCKET has to be."""

    def __init__(self) -> None:
        self._directory: str | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        if _HAS_ABSTRACT:
            name = f"tercet-{os.getpid()}-{id(self):x}-{time.monotonic_ns():x}"
            self.address = f"@{name}"
            self._socket.bind(f"\0{name}")
        else:
            # Not in the data directory: the path of a socket has at most 104 bytes.
            self._directory = tempfile.mkdtemp(prefix="tercet-")
            self.address = os.path.join(self._directory, "ready")
            self._socket.bind(self.address)

    def is_ready(self, seconds: float) -> bool:
        """Whether the process has said so, after a wait of at most `seconds`."""
        self._socket.settimeout(seconds)
        with contextlib.suppress(TimeoutError):
            return b"READY=1" in self._socket.recv(4096)
        return False

    def close(self) -> None:
        """May be called twice."""
        self._socket.close()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
