"""A member as a process of its own, which can be killed and stopped for real; or a real etcd, by the same flags.

    with tercet.ServerProcess() as server:
        server.kill()                                  # SIGKILL
        server.start()

The process says by $NOTIFY_SOCKET that it serves clients. It ends with this one: on Linux also if this process is killed,
where util-linux's setpriv is installed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tercet.embed.addresses import Addresses, Port
from tercet.embed.environment import client_environment
from tercet.embed.ready_socket import ReadySocket
from tercet.embed.settings import Setting, flags, is_secure
from tercet.embed.undo import Undo
from tercet.errors import TercetError
from tercet.owned_directory import OwnedDirectory

START_SECONDS_MAX: Final = 60.0
STOP_SECONDS_MAX: Final = 20.0
_READY_POLL_SECONDS: Final = 0.05
_TERCET: Final = (sys.executable, "-m", "tercet")


class ProcessFailed(TercetError):
    """The process ended, or did not become ready. The text holds the end of its log."""


class ServerProcess:
    """One member.

    data_dir: kept; None: a directory that `close` removes, or after a SIGKILL a later process that makes such a directory.
    name, members, config: as of Server.
    program: the command line of the server before its flags, such as ["/usr/bin/etcd"].
    keep_data: `close` leaves the directory and its log.
    """

    def __init__(
        self,
        *,
        data_dir: str | os.PathLike[str] | None = None,
        listen: str = "127.0.0.1:0",
        name: str = "default",
        members: Mapping[str, Port] | None = None,
        config: Mapping[str, Setting] | None = None,
        program: Sequence[str] = _TERCET,
        keep_data: bool = False,
    ) -> None:
        self.name = name
        self._owner_id = os.getpid()
        self._process: subprocess.Popen[bytes] | None = None
        self._readiness: ReadySocket | None = None
        self.is_paused = False
        self._program = list(program)
        self._addresses = Addresses(listen, members[name] if members else None, secure=is_secure(config or {}))
        self._owned = OwnedDirectory("process") if data_dir is None and not keep_data else None
        if self._owned is not None:
            self.directory = self._owned.path
        else:
            self.directory = Path(tempfile.mkdtemp(prefix="tercet-kept-") if data_dir is None else data_dir)
        peer_url, client_url = self._addresses.peer_url, self._addresses.client_url
        cluster = {one: port.url for one, port in members.items()} if members else {name: peer_url}
        self.endpoints = [client_url]
        settings: dict[str, Setting] = {
            "name": name,
            "data_dir": str(self.directory / "data"),
            "listen_client_urls": client_url,
            "advertise_client_urls": client_url,
            "listen_peer_urls": peer_url,
            "initial_advertise_peer_urls": peer_url,
            "initial_cluster": ",".join(f"{one}={url}" for one, url in cluster.items()),
            **(config or {}),
        }
        try:
            self._flags = flags(settings)
        except BaseException:  # a setting that cannot be used
            self.close()
            raise

    def __repr__(self) -> str:
        state = "paused" if self.is_paused else f"pid {self.pid}" if self.is_running else "not running"
        return f"<{type(self).__name__} {self.name} at {', '.join(self.endpoints)}, {state}>"

    # --- start and stop

    def start(self) -> Self:
        """Return when the member serves clients. Raises ProcessFailed."""
        self.start_soon()
        self.wait_ready()
        return self

    def start_soon(self) -> None:
        """Start the process without waiting for it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._readiness = ReadySocket()
        dies_with_us = [setpriv, "--pdeathsig", "KILL", "--"] if (setpriv := shutil.which("setpriv")) else []
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("ETCD_", "ETCDCTL_"))}
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [*dies_with_us, *self._program, *self._flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=inherited | {"NOTIFY_SOCKET": self._readiness.address},
                pass_fds=() if self._owned is None else (self._owned.descriptor,),
                start_new_session=True,  # Ctrl-C is for this process, which stops its children in order
            )

    def wait_ready(self, seconds: float = START_SECONDS_MAX) -> None:
        """Wait until the member serves clients. Raises ProcessFailed."""
        deadline = time.monotonic() + seconds
        assert self._readiness is not None
        try:
            while self.is_running and time.monotonic() < deadline:
                if self._readiness.is_ready(_READY_POLL_SECONDS):
                    return
        finally:
            self._readiness.close()
        state = "is not ready" if self.is_running else "has ended"
        raise ProcessFailed(f"{self._program[0]} {state}:\n" + "\n".join(self.logs[-20:]))

    def stop(self) -> None:
        """SIGTERM, and SIGKILL where that takes too long."""
        process = self._process
        if process is None:
            return
        self.resume()
        process.terminate()
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._process = None

    def kill(self) -> Undo:
        """SIGKILL. Taken back by a start."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process, self.is_paused = None, False
        return Undo(self._start_again)

    def _start_again(self) -> None:
        if not self.is_running:
            self.start()

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> Undo:
        """SIGSTOP; returns when the process has stopped."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)
            _wait_stopped(self._process.pid)
            self.is_paused = True
        return Undo(self.resume)

    def resume(self) -> None:
        """SIGCONT."""
        self.is_paused = False
        if self.is_running and self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Stop the process, release its ports, and remove what it stored. In a child process after a fork: nothing."""
        if os.getpid() != self._owner_id:
            return
        self.stop()
        if self._readiness is not None:
            self._readiness.close()
        self._addresses.close()
        if self._owned is not None:
            self._owned.close()

    def __enter__(self) -> Self:
        try:
            return self if self.is_running else self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # --- state

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Raises ProcessFailed if it does not run."""
        if self._process is None:
            raise ProcessFailed(f"{self.name} is not running")
        return self._process.pid

    @property
    def endpoint(self) -> str:
        return self.endpoints[0]

    @property
    def env(self) -> dict[str, str]:
        """Variables with which etcdctl and tercetctl find this server."""
        return client_environment(self.endpoints)

    @property
    def log_file(self) -> Path:
        return self.directory / "server.log"

    @property
    def logs(self) -> list[str]:
        """The log's lines, of all starts."""
        return self.log_file.read_text(errors="replace").splitlines() if self.log_file.exists() else []


def _wait_stopped(pid: int) -> None:
    if hasattr(os, "waitid"):
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
    else:
        os.waitpid(pid, os.WUNTRACED)  # Python has no waitid on macOS before 3.13
