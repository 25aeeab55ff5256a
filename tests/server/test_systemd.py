"""READY=1, to path and abstract sockets."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tercet.server.systemd import notify_ready


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
