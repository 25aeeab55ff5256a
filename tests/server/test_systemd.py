"""READY=1, to path and abstract sockets, and more time for a member that loads."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from pathlib import Path

import pytest

from tercet.server.systemd import loading, notify_ready
from tests.support.waiting import scaled


def received(address: str, environ_value: str) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(60)
        assert notify_ready({"NOTIFY_SOCKET": environ_value})
        return manager.recv(100)


def test_a_socket_in_the_file_system(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    assert received(path, path) == b"READY=1"


def test_an_abstract_socket() -> None:
    name = f"tercet-test-{os.getpid()}"
    assert received("\0" + name, "@" + name) == b"READY=1"


def test_without_notify_socket_nothing_is_sent() -> None:
    assert not notify_ready({})
    assert not notify_ready({"NOTIFY_SOCKET": ""})


def test_a_missing_socket_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It may be inherited from a service that has ended; the member serves."""
    assert not notify_ready({"NOTIFY_SOCKET": str(tmp_path / "none")})
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        "failed to notify systemd for readiness"
    ]


def test_loading_extends_the_start_while_it_uses_the_processor(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(scaled(10))
        with loading({"NOTIFY_SOCKET": path}, report_seconds=0.1):
            while not select.select([manager], [], [], 0)[0]:
                pass
        messages = [manager.recv(100)]
        while not messages[-1].startswith(b"STATUS=\n"):
            messages.append(manager.recv(100))
    assert messages[0] == b"STATUS=loading the database\nEXTEND_TIMEOUT_USEC=60000000"
    assert messages[-1] == b"STATUS=\nEXTEND_TIMEOUT_USEC=60000000", "time for what follows"


def test_loading_does_not_wait_for_a_manager_that_reads_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        environ = {"NOTIFY_SOCKET": path}
        with loading(environ, report_seconds=0.1), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.setblocking(False)
            other.connect(path)
            with contextlib.suppress(BlockingIOError):
                while True:
                    other.send(b"")
            began = time.process_time()
            while time.process_time() < began + 0.3:
                pass


def test_loading_that_makes_no_progress_gets_no_more_time(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.setblocking(False)
        with loading({"NOTIFY_SOCKET": path}, report_seconds=0.05):
            time.sleep(0.5)
        with pytest.raises(BlockingIOError):
            manager.recv(100)
