"""A real sshd on loopback for the current user, a home directory for the operator, and a proxy that can cut connections."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tercet.deploy.cluster.cluster import Cluster, HostSpec
from tercet.deploy.cluster.settings import SshSettings
from tests.support.ports import free_port
from tests.support.waiting import scaled

PROGRAM = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
USER = getpass.getuser()


def make_key(path: Path, *, passphrase: str = "", kind: str = "ed25519") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    command = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", path.name, "-f", str(path)]
    subprocess.run(command, check=True, timeout=scaled(20), stdin=subprocess.DEVNULL)
    return path


def public(key: Path) -> str:
    return " ".join(Path(f"{key}.pub").read_text().split()[:2])


def fingerprint(key: Path) -> str:
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-f", f"{key}.pub"], check=True, timeout=scaled(20), capture_output=True, text=True
    )
    return shown.stdout.split()[1]


@dataclass
class Sshd:
    """One server. `authorized` is its authorized_keys; host key, log and configuration are in `directory`."""

    directory: Path
    authorized: Path
    port: int
    process: subprocess.Popen[bytes]
    host_key: Path

    @property
    def known_hosts_line(self) -> str:
        return f"[127.0.0.1]:{self.port} {public(self.host_key)}\n"

    def log(self) -> str:
        return (self.directory / "log").read_text()


@contextlib.contextmanager
def running_sshd(
    directory: Path, *, environment: str = "", port: int | None = None, kind: str = "ed25519", more: str = ""
) -> Iterator[Sshd]:
    """A server until the end of the block. environment: NAME=VALUE for its commands. more: lines of its configuration."""
    if PROGRAM is None:
        pytest.skip("sshd is not installed (Debian: openssh-server)")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)
    key = make_key(directory / f"host_{time.monotonic_ns()}", kind=kind)
    authorized = directory / "authorized_keys"
    authorized.touch(mode=0o600)
    port = port or free_port()
    configuration = directory / "sshd_config"
    # Skip the start-up files of the login, which may be slow.
    configuration.write_text(f"""SetEnv HOME={directory} {environment}
Port {port}
ListenAddress 127.0.0.1
HostKey {key}
AuthorizedKeysFile {authorized}
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
{more}
""")
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([PROGRAM, "-D", "-e", "-f", str(configuration)], stderr=log, stdin=subprocess.DEVNULL)
    sshd = Sshd(directory, authorized, port, process, key)
    try:
        _wait_until_open(sshd)
        yield sshd
    finally:
        process.terminate()
        process.wait(scaled(10))


def _wait_until_open(sshd: Sshd) -> None:
    until = time.monotonic() + scaled(10)
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", sshd.port), 1):
            return
        assert sshd.process.poll() is None, sshd.log()
        time.sleep(0.02)
    raise AssertionError(sshd.log())


@dataclass
class Operator:
    """The operator: a home directory with an authorized key and a known_hosts with the server's key."""

    home: Path
    key: Path
    sshd: Sshd

    @property
    def known_hosts(self) -> Path:
        return self.home / ".ssh" / "known_hosts"

    def configure(self, text: str) -> None:
        (self.home / ".ssh" / "config").write_text(text)

    def spec(self, name: str = "node1", *, address: str = "127.0.0.1", **settings: object) -> HostSpec:
        """A member on the server. settings: of SshSettings."""
        return HostSpec(name=name, address=address, ssh=SshSettings(**{"port": self.sshd.port, **settings}))  # type: ignore[arg-type]

    def cluster(self, *specs: HostSpec) -> Cluster:
        return Cluster(name="test", path=self.home / "cluster.yaml", hosts=specs)


@contextlib.contextmanager
def operator_of(sshd: Sshd, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Operator]:
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setattr("tercet.deploy.ssh.sudo.ROOT", USER)  # the user of the tests counts as root
    key = make_key(home / ".ssh" / "id_ed25519")
    sshd.authorized.write_text(public(key) + "\n")
    operator = Operator(home, key, sshd)
    operator.known_hosts.write_text(sshd.known_hosts_line)
    yield operator


@dataclass
class Wire:
    """A TCP proxy that can cut connections (both ends notice) or drop packets (neither does)."""

    port: int = 0
    dead: bool = False
    limit: int = -1  # cut after this many bytes towards the server
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def cut(self) -> None:
        for writer in self.writers:
            writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(16384):
                if up and self.limit >= 0:
                    self.limit -= len(piece)
                    if self.limit < 0:
                        self.cut()
                        return
                if not self.dead:
                    writer.write(piece)
                    await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def wire_to(port: int) -> AsyncIterator[Wire]:
    """A proxy to a port on loopback."""
    wire = Wire()
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        wire.writers += [writer, far_writer]
        tasks.add(asyncio.ensure_future(wire._pump(reader, far_writer, up=True)))
        tasks.add(asyncio.ensure_future(wire._pump(far_reader, writer, up=False)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    wire.port = server.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        server.close()
        wire.cut()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
