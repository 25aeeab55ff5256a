"""Members as processes on loopback: started, killed, paused, restarted, and ended with the test.

A member is a command line (`tercet`, or the real `etcd`, which takes the same flags), a data directory and a log file. Members
are child processes; if the test process is killed, the kernel ends them (setpriv --pdeathsig).
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from tercet.pki import ClusterCertificates
from tests.support import waiting
from tests.support.client import Client, Credentials
from tests.support.ports import HOST, free_port
from tests.support.waiting import scaled

BIN = Path(sys.executable).parent
TERCET = (str(BIN / "tercet"),)
ETCD = (str(BIN / "etcd"),)
QUICK = ("--heartbeat-interval=50", "--election-timeout=1200")
"""Elections in two seconds, for tests that need several. A busy machine pauses a member for a second; an election then would
fail the requests of tests that expect none.
"""
STEADY = ("--heartbeat-interval=100", "--election-timeout=3000")
"""For tests that need the same leader from beginning to end."""

START_SECONDS_MAX = 90.0
"""The first member of a run compiles every module, which takes long on a busy machine."""
WAIT_SECONDS_MAX = 60.0

Result = TypeVar("Result")


NOT_YET = (OSError, http.client.HTTPException, Client.Error)
"""Errors of a member that is about to answer."""


def wait_until(condition: Callable[[], Result], what: str, *, seconds: float = 60.0) -> Result:
    """Poll until `condition` returns a true value; errors of the network count as "not yet"."""
    return waiting.wait_until(condition, what, seconds=seconds, errors=NOT_YET)


def environment(variables: Mapping[str, str], bytecode: Path | None) -> dict[str, str]:
    """This process's environment without etcd's variables; `bytecode` caches compiled modules, which shortens a start."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ETCD_", "ETCDCTL_")) and name not in ("PYTHONDONTWRITEBYTECODE", "NOTIFY_SOCKET")
    }
    if bytecode is not None:
        kept["PYTHONPYCACHEPREFIX"] = str(bytecode)
    return {**kept, **variables}


@dataclass
class Member:
    """One process and its flags; it can be started again after it has exited."""

    name: str
    directory: Path
    flags: Sequence[str]
    client_port: int
    peer_port: int
    program: Sequence[str] = TERCET
    variables: Mapping[str, str] = field(default_factory=dict)
    wrapper: Sequence[str] = ()
    credentials: Credentials | None = None
    bytecode: Path | None = None
    process: subprocess.Popen[bytes] | None = None
    _log_start: int = 0

    @property
    def data(self) -> Path:
        return self.directory / f"{self.name}.data"

    @property
    def log(self) -> Path:
        return self.directory / f"{self.name}.log"

    @property
    def endpoint(self) -> str:
        return f"{HOST}:{self.client_port}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @cached_property
    def client(self) -> Client:
        return Client(self.endpoint, self.credentials)

    # --- start and stop

    def start(self, *more: str) -> Member:
        """Start the process; `more` are additional flags of this start. Returns at once."""
        assert not self.is_running
        self.directory.mkdir(parents=True, exist_ok=True)
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        guard = [setpriv, "--pdeathsig", "KILL", "--"] if (setpriv := shutil.which("setpriv")) else []
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*guard, *self.wrapper, *self.program, *self.flags, *more],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(self.variables, self.bytecode),
                cwd=self.directory,
            )
        return self

    def wait_ready(self, seconds: float = START_SECONDS_MAX) -> Member:
        """Wait until the member reports that it is healthy."""
        wait_until(self._is_healthy_or_dead, f"{self.name} is healthy", seconds=seconds)
        assert self.is_running, f"{self.name} exited: {self.process and self.process.returncode}\n{self.said()}"
        if "client" in self.__dict__:
            self.client.wait_connected(seconds)
        return self

    def restart(self, *more: str) -> Member:
        return self.start(*more).wait_ready()

    def kill(self) -> None:
        """Send SIGKILL and wait for the exit."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def stop(self, number: int = signal.SIGTERM, seconds: float = WAIT_SECONDS_MAX) -> int:
        """Send a signal and wait. Returns the exit code, negative for a signal."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.wait_exit(seconds)

    def wait_exit(self, seconds: float = WAIT_SECONDS_MAX) -> int:
        assert self.process is not None
        try:
            return self.process.wait(scaled(seconds))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} has not exited after {seconds} s\n{self.said()}") from None

    def dispose(self) -> None:
        """End the process in any state."""
        if "client" in self.__dict__:
            self.client.close()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.send_signal(signal.SIGCONT)
            self.process.wait()

    # --- log and HTTP

    def said(self) -> str:
        """The log since the last start."""
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode("utf-8", "replace")

    def wait_said(self, text: str, seconds: float = WAIT_SECONDS_MAX) -> str:
        """Wait for a line with `text` in the log since the last start, and return the first one."""
        return wait_until(
            lambda: next((line for line in self.said().splitlines() if text in line), ""),
            f"{self.name} says {text!r}",
            seconds=seconds,
        )

    def reason(self) -> str:
        """The log line that gives the reason of the exit. Checks that there is one, and no traceback."""
        said = self.said()
        assert "Traceback" not in said, said
        assert "stacktrace" not in said, said
        fatal = [line for line in said.splitlines() if not line.startswith("{") or json.loads(line)["level"] == "fatal"]
        assert len(fatal) == 1, said
        line = fatal[0]
        return " ".join(map(str, json.loads(line).values())) if line.startswith("{") else line

    def http(self, path: str, port: int | None = None) -> tuple[int, str]:
        """GET from the client port (or another one). Returns status and body."""
        connection: http.client.HTTPConnection
        if self.credentials is None:
            connection = http.client.HTTPConnection(HOST, port or self.client_port, timeout=scaled(2))
        else:
            connection = http.client.HTTPSConnection(
                HOST, port or self.client_port, timeout=scaled(2), context=self.credentials.context()
            )
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def _is_healthy_or_dead(self) -> bool:
        return not self.is_running or self.http("/health")[0] == 200


@dataclass
class Cluster:
    """The members of one cluster. `flags` are passed to all of them."""

    directory: Path
    members: list[Member]
    certificates: ClusterCertificates | None = None

    @classmethod
    def plan(
        cls,
        directory: Path,
        names: Iterable[str] = ("n1", "n2", "n3"),
        flags: Sequence[str] = (),
        *,
        programs: Mapping[str, Sequence[str]] | None = None,
        certificates: ClusterCertificates | None = None,
        bytecode: Path | None = None,
        token: str = "test",
    ) -> Cluster:
        """Choose ports and command lines; nothing is started."""
        scheme = "https" if certificates else "http"
        ports = {name: (free_port(), free_port()) for name in names}
        initial = ",".join(f"{name}={scheme}://{HOST}:{peer}" for name, (_, peer) in ports.items())
        credentials = None
        if certificates:
            pair = certificates.client
            credentials = Credentials(certificates.ca, pair.certificate, pair.key)
        cluster = cls(directory, [], certificates)
        for name, (client, peer) in ports.items():
            member = Member(
                name,
                directory,
                [],
                client,
                peer,
                program=(programs or {}).get(name, TERCET),
                credentials=credentials,
                bytecode=bytecode,
            )
            member.flags = [
                *listening(member, scheme),
                f"--initial-cluster={initial}",
                f"--initial-cluster-token={token}",
                *(tls_flags(certificates, name) if certificates else ()),
                *flags,
            ]
            cluster.members.append(member)
        return cluster

    def __getitem__(self, name: str) -> Member:
        return next(member for member in self.members if member.name == name)

    def start(self) -> Cluster:
        for member in self.members:
            member.start()
        for member in self.members:
            member.wait_ready()
        return self

    @property
    def running(self) -> list[Member]:
        return [member for member in self.members if member.is_running]

    def leader(self, among: Sequence[Member] | None = None, seconds: float = 60.0) -> Member:
        """Wait for a member (of `among`, if given) that reports itself as the leader, and return it."""

        def find() -> Member | None:
            for member in self.running if among is None else among:
                try:
                    status = member.client.status(timeout=1)
                except Client.Error:
                    continue
                if status.leader == status.header.member_id:
                    return member
            return None

        found = wait_until(find, "there is a leader", seconds=seconds)
        assert found is not None
        return found

    def others(self, member: Member) -> list[Member]:
        return [one for one in self.members if one is not member]

    def dispose(self) -> None:
        for member in self.members:
            member.dispose()

    def show_logs(self) -> None:
        """The end of each member's log, for the report of a failed test."""
        for member in self.members:
            state = "running" if member.is_running else f"ended: {member.process and member.process.returncode}"
            lines = member.log.read_text(errors="replace").splitlines() if member.log.exists() else []
            print(f"--- {member.name} ({state}) {member.log}", *lines[-40:], sep="\n")


def listening(member: Member, scheme: str = "http") -> list[str]:
    """The flags for name, directory and addresses of one member."""
    client, peer = f"{scheme}://{HOST}:{member.client_port}", f"{scheme}://{HOST}:{member.peer_port}"
    return [
        f"--name={member.name}",
        f"--data-dir={member.data}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
    ]


def tls_flags(files: ClusterCertificates, name: str) -> list[str]:
    server, peer = files.servers[name], files.peers[name]
    return [
        f"--cert-file={server.certificate}",
        f"--key-file={server.key}",
        f"--trusted-ca-file={files.ca}",
        "--client-cert-auth",
        f"--peer-cert-file={peer.certificate}",
        f"--peer-key-file={peer.key}",
        f"--peer-trusted-ca-file={files.peer_ca}",
        "--peer-client-cert-auth",
    ]


_PATIENCE = ("--command-timeout=30s", "--dial-timeout=30s")  # etcdctl's own limits are 5 s, and 2 s for a login


def etcdctl(members: Sequence[Member], *words: str, seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Run the real etcdctl against these members."""
    command = [str(BIN / "etcdctl"), "--endpoints=" + ",".join(member.endpoint for member in members), *_PATIENCE]
    credentials = members[0].credentials
    if credentials is not None:
        command += [f"--cacert={credentials.ca}", f"--cert={credentials.certificate}", f"--key={credentials.key}"]
    return subprocess.run(
        [*command, *words],
        capture_output=True,
        text=True,
        timeout=scaled(seconds),
        env=environment({}, None),
        check=False,
    )


def server_context() -> ssl.SSLContext:
    """TLS without any check, for tests that speak garbage."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
