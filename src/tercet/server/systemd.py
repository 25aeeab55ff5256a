"""Notifies the service manager that the member is ready: READY=1 to $NOTIFY_SOCKET, for units of Type=notify.

Like etcd, it sends neither STOPPING=1 nor WATCHDOG=1. Source: sd_notify(3).
"""

from __future__ import annotations

import socket
from collections.abc import Mapping


def notify_ready(environ: Mapping[str, str]) -> bool:
    """Whether there is a service manager. Raises OSError if it cannot be notified."""
    path = environ.get("NOTIFY_SOCKET", "")
    if not path:
        return False
    address = "\0" + path[1:] if path[0] == "@" else path  # @ stands for the null byte of an abstract socket
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.connect(address)
        manager.sendall(b"READY=1")
    return True
