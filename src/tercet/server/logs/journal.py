"""Log output to the systemd journal, by its native protocol: datagrams of FIELD=value lines.

Source: systemd, "Native Journal Protocol".
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys

from tercet.errors import ConfigError

SOCKET = "/run/systemd/journal/socket"
_PRIORITIES = ((logging.CRITICAL - 3, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG = 7
_BYTES_MAX = 200_000  # near the limit of a datagram; longer lines are cut


class JournalHandler(logging.Handler):
    """Raises ConfigError, with etcd's text, without a journal."""

    def __init__(self, path: str = SOCKET) -> None:
        super().__init__()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            reason = os.strerror(error.errno or 0).lower()
            raise ConfigError(f"can't find journal (dial unixgram {path}: connect: {reason})") from error
        self._socket.setblocking(False)
        self._identifier = os.path.basename(sys.argv[0]) or "tercet"

    def emit(self, record: logging.LogRecord) -> None:
        message = self.format(record).encode()[:_BYTES_MAX]
        priority = next((number for level, number in _PRIORITIES if record.levelno >= level), _DEBUG)
        parts = [
            b"PRIORITY=%d\n" % priority,
            f"SYSLOG_IDENTIFIER={self._identifier}\nPACKAGE={record.module}\n".encode(),
            b"MESSAGE\n" + len(message).to_bytes(8, "little") + message + b"\n",
        ]
        with contextlib.suppress(OSError):  # a full or stopped journal must not stop the member
            self._socket.send(b"".join(parts))

    def close(self) -> None:
        self._socket.close()
        super().close()
