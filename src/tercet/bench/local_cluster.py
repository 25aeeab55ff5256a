"""A cluster on loopback as child processes: the members' ports and directories, and how they are started, watched and stopped.

`tercet up` and the comparisons use it. The program is a parameter; any that takes etcd's flags will do:
    cluster = LocalCluster(plan, program=["etcd"])
    await cluster.start(); await cluster.wait_healthy(30); ...; await cluster.stop()

Members run in a session of their own, so that Ctrl-C in a terminal reaches the one who stops them in order and not all at once;
should that one be killed, the kernel stops the members (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tercet.client import ClusterChannel, Health, TLSFiles, check_health
from tercet.errors import TercetError
from tercet.pki import ClusterCertificates

STOP_SECONDS = 15.0
_HEALTH_SECONDS = 2.0
_LOG_TAIL_BYTES = 16 << 10
# Runs first in the child: asks the kernel to end it when this process is gone, then becomes the program. In a process of
# its own and not between fork and exec (`preexec_fn`), where a lock that another thread held would never be released.
_DIE_WITH_PARENT = (
    sys.executable,
    "-IS",
    "-c",
    """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
parent, program = int(sys.argv[1]), sys.argv[2:]
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
if os.getppid() != parent:
    sys.exit("started by a process that is gone")
try:
    os.execvp(program[0], program)
except OSError as error:
    sys.exit(f"cannot run {program[0]}: {error}")
""",
)


class MemberExited(TercetError):
    """A member exited without being stopped. code: its exit code, negative for a signal. log_tail: its last log lines."""

    def __init__(self, member: Member, code: int, log_tail: str) -> None:
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        super().__init__(f"{member.name} exited: {how}; log: {member.log}")
        self.member = member
        self.code = code
        self.log_tail = log_tail


class NotHealthy(TercetError):
    """Not all members answered in time."""


@dataclass(frozen=True)
class Member:
    """One member of the plan. `data` and `log` are its data directory and the file that its output goes to."""

    name: str
    client_port: int
    peer_port: int
    data: Path
    log: Path


@dataclass(frozen=True)
class Plan:
    """All that a cluster is made of; `extra` are flags for every member."""

    members: tuple[Member, ...]
    token: str
    certificates: ClusterCertificates | None = None
    peer_certificates: bool = True
    client_auth: bool = True
    extra: tuple[str, ...] = ()
    host: str = "127.0.0.1"

    def client_url(self, member: Member) -> str:
        return f"{'https' if self.certificates else 'http'}://{self.host}:{member.client_port}"

    def peer_url(self, member: Member) -> str:
        return f"{'https' if self._peers_use_tls else 'http'}://{self.host}:{member.peer_port}"

    @property
    def client_urls(self) -> list[str]:
        return [self.client_url(member) for member in self.members]

    @property
    def tls(self) -> TLSFiles | None:
        """What a client of this cluster needs."""
        if self.certificates is None:
            return None
        pair = self.certificates.client
        return TLSFiles(cacert=str(self.certificates.ca), cert=str(pair.certificate), key=str(pair.key))

    @property
    def _peers_use_tls(self) -> bool:
        return self.certificates is not None and self.peer_certificates

    def flags(self, member: Member) -> list[str]:
        """The command line of one member, without the program: etcd's flags."""
        client, peer = self.client_url(member), self.peer_url(member)
        flags = [
            f"--name={member.name}",
            f"--data-dir={member.data}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            "--initial-cluster=" + ",".join(f"{other.name}={self.peer_url(other)}" for other in self.members),
            f"--initial-cluster-token={self.token}",
            "--initial-cluster-state=new",
        ]
        return [*flags, *self._tls_flags(member), *self.extra]

    def _tls_flags(self, member: Member) -> list[str]:
        files = self.certificates
        if files is None:
            return []
        server, peer = files.servers[member.name], files.peers[member.name]
        flags = [f"--cert-file={server.certificate}", f"--key-file={server.key}"]
        if self.client_auth:
            flags += [f"--trusted-ca-file={files.ca}", "--client-cert-auth"]
        if self._peers_use_tls:
            flags += [f"--peer-cert-file={peer.certificate}", f"--peer-key-file={peer.key}"]
            flags += [f"--peer-trusted-ca-file={files.peer_ca}", "--peer-client-cert-auth"]
        return flags

    def ports_in_use(self) -> list[tuple[Member, int]]:
        """Those of our ports that somebody else listens on now."""
        ports = [(member, port) for member in self.members for port in (member.client_port, member.peer_port)]
        return [(member, port) for member, port in ports if not _is_free(self.host, port)]


def tercet_program() -> list[str]:
    """How to start a tercet member with the interpreter that runs this."""
    return [sys.executable, "-m", "tercet.cli.tercet"]


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a connection that lingers is no listener
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


@dataclass
class LocalCluster:
    """The running processes of a plan."""

    plan: Plan
    program: Sequence[str]
    processes: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)

    async def start(self) -> None:
        """Start all members; returns before they serve. Raises OSError if the program cannot be run."""
        for member in self.plan.members:
            await self.start_member(member)

    async def start_member(self, member: Member) -> None:
        member.log.parent.mkdir(parents=True, exist_ok=True)
        with member.log.open("ab") as log:
            self.processes[member.name] = await asyncio.create_subprocess_exec(
                *_DIE_WITH_PARENT,
                str(os.getpid()),
                *self.program,
                *self.plan.flags(member),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(),
                start_new_session=True,
            )

    def pid(self, member: Member) -> int:
        return self.processes[member.name].pid

    async def wait_healthy(self, timeout: float, told: Callable[[Member, Health], None] | None = None) -> None:
        """Until every member answers as healthy; `told` hears of each as it does, in the plan's order.

        timeout: seconds for all. Raises NotHealthy with the last error of each, MemberExited.
        """
        deadline = asyncio.get_running_loop().time() + timeout
        watch = asyncio.create_task(self.wait_for_any_exit())
        try:
            checks = [asyncio.create_task(self._until_healthy(member, deadline)) for member in self.plan.members]
            for member, check in zip(self.plan.members, checks, strict=True):
                await asyncio.wait((check, watch), return_when=asyncio.FIRST_COMPLETED)
                if not check.done():
                    raise await watch
                health = await check
                if told is not None:
                    told(member, health)
        finally:
            for task in (watch, *checks):
                task.cancel()
            await asyncio.gather(watch, *checks, return_exceptions=True)

    async def _until_healthy(self, member: Member, deadline: float) -> Health:
        """Ask this member until it is healthy, and once more: the first answer's time is that of the election it waited for."""
        loop = asyncio.get_running_loop()
        was_healthy = False
        while True:
            patience = max(min(_HEALTH_SECONDS, deadline - loop.time()), 0.1)
            async with ClusterChannel([self.plan.client_url(member)], tls=self.plan.tls, timeout=patience) as client:
                health = await check_health(client)
            if health.is_healthy and was_healthy:
                return health
            was_healthy = health.is_healthy
            if was_healthy:
                continue
            if loop.time() > deadline:
                raise NotHealthy(f"{member.name} is not healthy: {health.error}; log: {member.log}")
            await asyncio.sleep(0.1)

    async def wait_for_any_exit(self) -> MemberExited:
        """Wait for the first member that exits."""
        waits = [asyncio.create_task(self.wait_for_exit(member)) for member in self.plan.members]
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for task in waits:
                task.cancel()

    async def wait_for_exit(self, member: Member) -> MemberExited:
        """Wait until the current process of `member` exits."""
        code = await self.processes[member.name].wait()
        return MemberExited(member, code, log_tail(member.log))

    async def stop(self, *, timeout: float = STOP_SECONDS) -> list[str]:
        """End the members politely, one after the other; what is left after `timeout` seconds by force.

        One after the other, since a leader that ends hands over to another member first, and would wait for one in vain if all
        ended at once. Returns the names of those it took force for.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        for process in self.processes.values():
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                await asyncio.wait((asyncio.create_task(process.wait()),), timeout=max(deadline - loop.time(), 0))
        forced = [name for name, process in self.processes.items() if process.returncode is None]
        await self.kill()
        return forced

    async def kill(self) -> None:
        """End all members as a power cut would."""
        self.signal_all(signal.SIGKILL)
        await asyncio.gather(*(process.wait() for process in self.processes.values()))
        self.processes.clear()

    def signal_all(self, number: signal.Signals) -> None:
        for process in self.processes.values():
            if process.returncode is None:
                process.send_signal(number)


def log_tail(path: Path, lines: int = 12) -> str:
    """The last lines of a log file, for people."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LOG_TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError as error:
        return f"({error})"
    return "\n".join(text.splitlines()[-lines:])


def _environment() -> dict[str, str]:
    """Ours without etcd's variables: one that is set for this shell would be in conflict with a member's flags."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}
