"""Tell the service manager that the member is ready: `READY=1` to $NOTIFY_SOCKET, for units of Type=notify.

Source: sd_notify(3). Like etcd, nothing else is sent: no STOPPING=1, no WATCHDOG=1.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping


def notify_ready(environ: Mapping[str, str]) -> bool:
    """Whether there was a manager to tell. Raises OSError if it could not be told."""
    path = environ.get("NOTIFY_SOCKET", "")
    if not path:
        return False
    address = "\0" + path[1:] if path[0] == "@" else path  # a name that begins with @ lies outside the file system
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
        manager.connect(address)
        manager.sendall(b"READY=1")
    return True
