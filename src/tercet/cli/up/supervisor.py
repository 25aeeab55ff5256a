"""The members of `tercet up` from start to stop: report the ones that exit, restart them on request.

A request is `r` and Enter on the terminal, or `tercet up --restart`, which finds this process by DIR/up.lock and sends SIGUSR1.
    DIR/up.lock       locked while `tercet up` runs; contains its pid
    DIR/NAME/pid      the pid of a running member
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import select
import shlex
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from tercet.bench.local_cluster import LocalCluster, Member, MemberExited
from tercet.disk_sync import naming
from tercet.errors import TercetError

_LOCK = "up.lock"


class Echo(Protocol):
    """click.echo: prints a line to stdout, or to stderr."""

    def __call__(self, message: str, *, err: bool = False) -> None: ...


class AlreadyRunning(TercetError):
    """Another `tercet up` runs on this directory, or none where one is needed."""


@contextlib.contextmanager
def lock_directory(directory: Path) -> Iterator[None]:
    """Hold DIR/up.lock. Raises AlreadyRunning, OSError."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # a request may come before the event loop handles it
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / _LOCK).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise AlreadyRunning(f"`tercet up` is already running on {directory} (pid {lock.read().strip()})") from error
        with naming(directory / _LOCK):
            lock.truncate(0)
            os.write(lock.fileno(), f"{os.getpid()}\n".encode())
        yield


def request_restart(directory: Path) -> int:
    """Have the `tercet up` that runs on `directory` restart exited members; returns its pid. Raises AlreadyRunning, OSError."""
    missing = AlreadyRunning(f"no `tercet up` is running on {directory}")
    try:
        lock = (directory / _LOCK).open("r")
    except FileNotFoundError:
        raise missing from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = int(lock.read())
            os.kill(pid, signal.SIGUSR1)
            return pid
    raise missing


class Supervisor:
    """Starts the members and keeps track of which run."""

    def __init__(self, cluster: LocalCluster, data_dir: Path, stop: asyncio.Event, echo: Echo) -> None:
        self._cluster = cluster
        self._data_dir = data_dir
        self._stop = stop
        self._echo = echo
        self._restart = asyncio.Event()
        self._exits: dict[asyncio.Task[MemberExited], Member] = {}
        self._exited: list[Member] = []

    async def start(self) -> None:
        """Start all members; returns before they serve. Raises OSError."""
        for member in self._cluster.plan.members:
            await self._start(member)

    async def run(self) -> int:
        """Report exits and restart on request until asked to stop, or until no member is left to restart; the exit code."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, self._restart.set)
        has_terminal = _read_requests(loop, self._restart)
        stopped = asyncio.create_task(self._stop.wait())
        try:
            while True:
                restart = asyncio.create_task(self._restart.wait())
                await asyncio.wait({*self._exits, stopped, restart}, return_when=asyncio.FIRST_COMPLETED)
                restart.cancel()
                if self._stop.is_set():
                    return 0
                for task in [one for one in self._exits if one.done()]:
                    self._exited.append(self._exits.pop(task))
                    self._report(task.result(), has_terminal)
                if self._restart.is_set():
                    self._restart.clear()
                    await self._restart_exited()
                if not self._exits and not has_terminal:
                    return 1
        finally:
            stopped.cancel()
            for waiting in self._exits:
                waiting.cancel()

    def remove_pid_files(self) -> None:
        for member in self._cluster.plan.members:
            _pid_file(member).unlink(missing_ok=True)

    async def _start(self, member: Member) -> None:
        await self._cluster.start_member(member)
        with naming(_pid_file(member)):
            _pid_file(member).write_text(f"{self._cluster.pid(member)}\n", encoding="utf-8")
        self._exits[asyncio.create_task(self._cluster.wait_for_exit(member))] = member

    async def _restart_exited(self) -> None:
        while self._exited:
            member = self._exited.pop(0)
            await self._start(member)
            self._echo(f"Restarted {member.name}.")

    def _report(self, exited: MemberExited, has_terminal: bool) -> None:
        member = exited.member
        _pid_file(member).unlink(missing_ok=True)
        self._echo(str(exited), err=True)
        if exited.code >= 0:
            self._echo("".join(f"  {line}\n" for line in exited.log_tail.splitlines()), err=True)
        total, running = len(self._cluster.plan.members), len(self._exits)
        state = f"{running} of {total} members {'is' if running == 1 else 'are'} running"
        if running <= total // 2:
            state += ", fewer than a quorum: writes and linearizable reads wait"
        remedy = f"tercet up --restart --data-dir {shlex.quote(short_path(str(self._data_dir)))}"
        names = ", ".join(member.name for member in self._exited)
        offer = f"Press r and Enter to restart {names}" if has_terminal else f"To restart {names}: {remedy}"
        self._echo(f"{state}. {offer}", err=True)


def on_hangup(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    """Call `callback` when stdout is a pipe whose reader has gone, as in `tercet up | head -1`."""
    with contextlib.suppress(OSError, ValueError):
        fd = sys.stdout.fileno()
        if not stat.S_ISFIFO(os.fstat(fd).st_mode):
            return

        def readable() -> None:  # epoll reports the error of a pipe's write end as readable
            poller = select.poll()
            poller.register(fd, 0)
            if poller.poll(0):
                loop.remove_reader(fd)
                callback()

        loop.add_reader(fd, readable)


def short_path(path: str) -> str:
    """`path` relative to the current directory where it is below that."""
    with contextlib.suppress(ValueError):
        return str(Path(path).absolute().relative_to(Path.cwd()))
    return path


def _read_requests(loop: asyncio.AbstractEventLoop, restart: asyncio.Event) -> bool:
    """Set `restart` for each line `r` on stdin. False if stdin is no terminal, or this is a background job."""

    def in_foreground() -> bool:
        return os.tcgetpgrp(0) == os.getpgrp()

    def readable() -> None:
        line = os.read(0, 4096) if in_foreground() else b""  # reading in the background would stop the job (SIGTTIN)
        if not line:
            loop.remove_reader(0)
        elif line.strip().lower() in (b"r", b"restart"):
            restart.set()

    try:
        if not os.isatty(0) or not in_foreground():
            return False
        loop.add_reader(0, readable)
    except OSError:
        return False
    return True


def _pid_file(member: Member) -> Path:
    return member.log.parent / "pid"
