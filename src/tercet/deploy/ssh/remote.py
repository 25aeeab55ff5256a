"""One host, as the rest of the room sees it: run a command, put a file there, follow a log, reach a port.

    host = await connect(spec)
    await host.check("systemctl daemon-reload", step="reload systemd")
    await host.write("/etc/etcd/cert/etcd-key.pem", key, mode=0o600, owner="etcd", group="etcd", step="write the key")

Whatever goes wrong is a `HostError` that names host and step. What is secret travels over stdin: commands are seen by everybody
on the host. A file is never seen half-written under its name, whenever the connection may break.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import math
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

import asyncssh

from tercet.deploy.cluster.cluster import HostSpec
from tercet.deploy.ssh import receive
from tercet.deploy.ssh.host_error import HostError
from tercet.deploy.ssh.sudo import Process, Root, as_login, begin

__all__ = ["Completed", "Host", "HostError", "last_lines"]

Progress = Callable[[int, int], None]

_SESSIONS = 8  # sshd refuses an eleventh at once (MaxSessions)
_UPLOAD_PIECE = 256 << 10
_UPLOAD_BYTES_PER_SECOND = 100_000  # what is slower than this, in the long run, is not going to finish
_CLOSE_SECONDS = 0.2  # for a goodbye; a command that still prints would make it a long one
_LINES_SHOWN = 12
# Reads a program of the length that stdin's first line says, and runs its `main` on what follows: a command line that says
# nothing of what is done, and has no limit.
_LOADER = (
    "import sys; source = sys.stdin.buffer; scope = {'__name__': 'tercet'}; "
    "exec(compile(source.read(int(source.readline())), 'tercet', 'exec'), scope); scope['main'](source)"
)


@dataclass(frozen=True)
class Completed:
    """How a command ended. exit_code: 128 + N if signal N ended it."""

    exit_code: int
    stdout: bytes
    stderr: bytes


class Host:
    """A host that we are connected to. Every method may raise HostError; all may be used at the same time."""

    def __init__(
        self,
        spec: HostSpec,
        connection: asyncssh.SSHClientConnection,
        root: Root,
        *,
        on_close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.name = spec.name
        self.spec = spec
        self._connection = connection
        self._root = root
        self._on_close = on_close
        self._slots = asyncio.Semaphore(_SESSIONS)

    async def run(self, command: str, *, stdin: bytes = b"", root: bool = True, timeout: float = 60, step: str) -> Completed:
        """Run a line of sh and wait until it has ended, whatever its exit code.

        root: become root for it, if the login is not. timeout: seconds; what still runs then is ended, on the host too. If this
        is cancelled or the connection breaks, the command goes on by itself, for no longer than that.
        """
        async with self._session(_bounded(command, timeout), root=root, timeout=timeout, step=step) as process:
            _feed(process, stdin)
            out, err = await process.communicate()
        return self._completed(process, out, err, step)

    async def check(self, command: str, *, stdin: bytes = b"", root: bool = True, timeout: float = 60, step: str) -> bytes:
        """`run`, and what it printed. Raises HostError with the last lines of stderr if it failed."""
        done = await self.run(command, stdin=stdin, root=root, timeout=timeout, step=step)
        self._must_succeed(done, step)
        return done.stdout

    async def run_python(
        self, program: str, data: bytes, *, root: bool = True, timeout: float = 60, step: str, python: str = "python3"
    ) -> Completed:
        """Run the `main` of a program for the standard library of Python 3.7 under the host's own; `data` is its stdin."""
        done = await self.run(_loader(python), stdin=_packed(program) + data, root=root, timeout=timeout, step=step)
        self._must_have_python(done, step, python)
        return done

    async def write(
        self, path: str, content: bytes, *, mode: int, owner: str = "root", group: str = "root", step: str, timeout: float = 60
    ) -> None:
        """Put a file there, replacing one of that name, whole or not at all; it is on the disk when this returns."""
        header = _header(path, len(content), mode=mode, owner=owner, group=group)
        self._must_succeed(
            await self.run_python(inspect.getsource(receive), header + content, timeout=timeout, step=step), step, "write"
        )

    async def upload(
        self, local: Path, path: str, *, mode: int, step: str, progress: Progress | None = None, timeout: float | None = None
    ) -> None:
        """Put a large file there, owned by root, whole or not at all. progress: told bytes done and bytes in total.

        timeout: seconds; by default what a slow line needs.
        """
        try:
            size, file = local.stat().st_size, local.open("rb")
        except OSError as error:
            raise HostError(self.name, step, f"cannot read {local} here: {error.strerror}") from error
        header = _header(path, size, mode=mode, owner="root", group="root")
        timeout = timeout if timeout is not None else 60 + size / _UPLOAD_BYTES_PER_SECOND
        command = _bounded(_loader("python3"), timeout)
        with file:
            async with self._session(command, root=True, timeout=timeout, step=step) as process:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it gave up; it says why below
                    process.stdin.write(_packed(inspect.getsource(receive)) + header)
                    await _stream(file, size, process, progress)
                    process.stdin.write_eof()
                out, err = await process.communicate()
        done = self._completed(process, out, err, step)
        self._must_have_python(done, step, "python3")
        self._must_succeed(done, step, "upload")

    async def lines(self, command: str, *, root: bool = True, step: str) -> AsyncIterator[str]:
        """What a command prints, line by line, for as long as it runs.

        Close the iterator to hang up: the command ends when it next prints, if it does not notice before (journalctl does).
        """
        async with self._session(command, root=root, timeout=None, step=step) as process:
            _feed(process, b"")
            async for line in process.stdout:
                if line:  # the last one may be empty
                    yield line.decode("utf-8", "replace").rstrip("\n")
            err = await process.stderr.read()
            await process.wait_closed()
        self._must_succeed(self._completed(process, b"", err, step), step)

    async def forward(self, address: str, port: int) -> int:
        """A port on our 127.0.0.1 that leads to `address:port` as the host sees it, until the host is closed."""
        step = f"forward {address}:{port}"
        try:
            listener = await self._connection.forward_local_port("127.0.0.1", 0, address, port)
        except (OSError, asyncssh.Error) as error:
            self._raise(error, step)
        return listener.get_port()

    async def close(self) -> None:
        """Hang up. What still runs on the host is left to itself."""
        self._connection.close()
        with contextlib.suppress(TimeoutError, OSError, asyncssh.Error):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._connection.wait_closed()
        self._connection.abort()
        if self._on_close is not None:
            await self._on_close()

    @contextlib.asynccontextmanager
    async def _session(self, command: str, *, root: bool, timeout: float | None, step: str) -> AsyncIterator[Process]:
        """A command that runs; we hang up on it when this is left."""
        process: Process | None = None
        async with self._slots:
            try:
                if root:
                    await self._find_root()
                async with asyncio.timeout(timeout):
                    if root:
                        process = await self._root.start(self._connection, command)
                    else:
                        process = await begin(self._connection, as_login(command))
                    yield process
            except TimeoutError as error:
                raise HostError(
                    self.name, step, f"not finished after {timeout:g} s", remedy="is the host overloaded?"
                ) from error
            except (OSError, asyncssh.Error) as error:
                self._raise(error, step)
            finally:
                if process is not None:
                    process.close()

    async def _find_root(self) -> None:
        """Before the clock of a command starts: a person may have to type a password."""
        try:
            await self._root.find(self._connection)
        except TimeoutError as error:
            raise HostError(self.name, "sudo", "sudo did not answer", remedy="is the host overloaded?") from error

    def _completed(self, process: Process, out: bytes, err: bytes, step: str) -> Completed:
        code = process.returncode
        if code is None:
            self._raise(asyncssh.ConnectionLost("before it had ended"), step)
        return Completed(code if code >= 0 else 128 - code, out, err)

    def _must_succeed(self, done: Completed, step: str, what: str = "") -> None:
        if done.exit_code:
            said = last_lines(done.stderr or done.stdout)
            code = f"exit code {done.exit_code}" if not what else f"cannot {what}"
            separator = "\n" if "\n" in said else " "
            raise HostError(self.name, step, f"{code}:{separator}{said}" if said else code)

    def _must_have_python(self, done: Completed, step: str, python: str) -> None:
        if done.exit_code in (126, 127):
            raise HostError(
                self.name,
                step,
                f"there is no {python} on the host",
                remedy="install Python 3 there (apt-get install python3, dnf install python3)",
            )
        if b"future feature annotations is not defined" in done.stderr:
            raise HostError(self.name, step, f"{python} on the host is older than 3.7", remedy="install a newer one there")

    def _raise(self, error: Exception, step: str) -> NoReturn:
        if isinstance(error, asyncssh.ChannelOpenError) and not self._connection.is_closed():
            raise HostError(self.name, step, f"the SSH server refuses: {error.reason}") from error
        raise HostError(
            self.name,
            step,
            "the SSH connection was lost, and with it the knowledge of how far this got",
            remedy="run the same again: what is done already is found done",
        ) from error


def last_lines(output: bytes, count: int = _LINES_SHOWN) -> str:
    """The end of what a program printed, for an error."""
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return "\n".join(line.rstrip() for line in lines[-count:])


def _bounded(command: str, seconds: float) -> str:
    """The command, ended by the host itself if need be: sshd passes no signals on to what runs as root.

    A little after we have given up, so that it is we who say so.
    """
    return f"exec timeout -k 5 {math.ceil(seconds) + 1} sh -c {shlex.quote(command)}"


def _loader(python: str) -> str:
    return f"exec {shlex.quote(python)} -I -c {shlex.quote(_LOADER)}"


def _packed(program: str) -> bytes:
    source = program.encode()
    return b"%d\n" % len(source) + source


def _header(path: str, size: int, *, mode: int, owner: str, group: str) -> bytes:
    return json.dumps({"path": path, "size": size, "mode": mode, "owner": owner, "group": group}).encode() + b"\n"


def _feed(process: Process, stdin: bytes) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it ended without reading; its exit code will tell
        if stdin:
            process.stdin.write(stdin)
        process.stdin.write_eof()


async def _stream(file: IO[bytes], size: int, process: Process, progress: Progress | None) -> None:
    done = 0
    while piece := file.read(_UPLOAD_PIECE):
        process.stdin.write(piece)
        await process.stdin.drain()
        done += len(piece)
        if progress is not None:
            progress(done, size)
