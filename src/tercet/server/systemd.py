"""Notifies the service manager that the member is ready: READY=1 to $NOTIFY_SOCKET, for units of Type=notify.

Like etcd, it sends neither STOPPING=1 nor WATCHDOG=1. Source: sd_notify(3).
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping

from tercet.log_fields import fields

logger = logging.getLogger(__name__)


def notify_ready(environ: Mapping[str, str]) -> bool:
    """Whether a service manager has been told. One that cannot be reached does not stop the member, as with etcd."""
    logger.info("notifying init daemon")
    try:
        told = _send_ready(environ)
    except OSError as error:
        logger.error("failed to notify systemd for readiness", extra=fields(error=str(error)))
        return False
    logger.info("successfully notified init daemon")
    return told


def _send_ready(environ: Mapping[str, str]) -> bool:
    path = environ.get("NOTIFY_SOCKET", "")
    if not path:
        return False
    address = "\0" + path[1:] if path[0] == "@" else path  # @ stands for the null byte of an abstract socket
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.connect(address)
        manager.sendall(b"READY=1")
    return True
