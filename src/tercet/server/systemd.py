"""Notifies the service manager, by $NOTIFY_SOCKET, of a start: for units of Type=notify.

    READY=1                    the member serves clients
    EXTEND_TIMEOUT_USEC=...    it loads its database, and has used the processor since the last such message

A large database loads for minutes; without the second message systemd would end the member after TimeoutStartSec and start it
again, for ever. A start that waits for something else, such as a majority, gets no more time than the unit gives it.

Like etcd, it sends neither STOPPING=1 nor WATCHDOG=1. Source: sd_notify(3).
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Final

from tercet.log_fields import fields

logger = logging.getLogger(__name__)

EXTENSION_SECONDS: Final = 60
_REPORT_SECONDS: Final = 5.0
_WORK_SECONDS_MIN: Final = 0.01  # of the processor, between two reports: one that waits for a broken disk uses none
_LOADING: Final = f"STATUS=loading the database\nEXTEND_TIMEOUT_USEC={EXTENSION_SECONDS * 1_000_000}".encode()
_LOADED: Final = f"STATUS=\nEXTEND_TIMEOUT_USEC={EXTENSION_SECONDS * 1_000_000}".encode()


def notify_ready(environ: Mapping[str, str]) -> bool:
    """Whether a service manager has been told. One that cannot be reached does not stop the member, as with etcd."""
    logger.info("notifying init daemon")
    try:
        told = _notify(environ, b"READY=1")
    except OSError as error:
        logger.error("failed to notify systemd for readiness", extra=fields(error=str(error)))
        return False
    logger.info("successfully notified init daemon")
    return told


@contextlib.contextmanager
def loading(environ: Mapping[str, str], *, report_seconds: float = _REPORT_SECONDS) -> Iterator[None]:
    """Extend the time limit of the start while the block runs and uses the processor, and once more at its end."""
    if not environ.get("NOTIFY_SOCKET"):
        yield
        return
    is_done = threading.Event()
    reports = threading.Thread(target=_report, args=(environ, report_seconds, is_done), name="start-timeout", daemon=True)
    reports.start()
    try:
        yield
    finally:
        is_done.set()
        reports.join()


def _report(environ: Mapping[str, str], report_seconds: float, is_done: threading.Event) -> None:
    used, has_reported = time.process_time(), False
    while not is_done.wait(report_seconds):
        before, used = used, time.process_time()
        if used - before >= _WORK_SECONDS_MIN:
            _notify_if_possible(environ, _LOADING)
            has_reported = True
    if has_reported:
        _notify_if_possible(environ, _LOADED)


def _notify_if_possible(environ: Mapping[str, str], message: bytes) -> None:
    """The load does not wait for a manager that reads nothing; READY=1 will fail as well, and be logged."""
    with contextlib.suppress(OSError):
        _notify(environ, message, waits=False)


def _notify(environ: Mapping[str, str], message: bytes, *, waits: bool = True) -> bool:
    path = environ.get("NOTIFY_SOCKET", "")
    if not path:
        return False
    address = "\0" + path[1:] if path[0] == "@" else path  # @ stands for the null byte of an abstract socket
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.setblocking(waits)
        manager.connect(address)
        manager.sendall(message)
    return True
