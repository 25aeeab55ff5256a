"""A connected host: run commands, write files, stream output, forward ports.

    host = await connect(spec)
    await host.check("systemctl daemon-reload", step="reload systemd")
    await host.write("/etc/etcd/cert/etcd-key.pem", key, mode=0o600, owner="etcd", group="etcd", step="write key")

Every failure is a `HostError` with host and step. Secrets travel over stdin: command lines are visible to all users of the
host. Files are replaced atomically, even if the connection breaks.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import math
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NoReturn

import asyncssh

from tercet.deploy.cluster.cluster import HostSpec, host_port
from tercet.deploy.ssh import receive
from tercet.deploy.ssh.host_error import HostError
from tercet.deploy.ssh.sudo import Process, Root, as_login, start_session

__all__ = ["Completed", "Host", "HostError", "RemoteFile", "last_lines"]

Progress = Callable[[int, int], None]

_SESSIONS = 8  # sshd refuses an eleventh at once (MaxSessions)
_UPLOAD_PIECE = 256 << 10
_UPLOAD_BYTES_PER_SECOND = 100_000  # lower bound for the upload timeout
_REFUSAL_SECONDS = 3.0
_CLOSE_SECONDS = 0.2  # a command that still prints would delay the close
_LINES_SHOWN = 12
# Reads a program from stdin, whose first line is its length, and runs its `main` on the rest: nothing of it appears on the
# command line, and its size is not limited.
_LOADER = (
    "import sys; source = sys.stdin.buffer; scope = {'__name__': 'tercet'}; "
    "exec(compile(source.read(int(source.readline())), 'tercet', 'exec'), scope); scope['main'](source)"
)


@dataclass(frozen=True)
class Completed:
    """A finished command. exit_code: 128 + N if it was killed by signal N."""

    exit_code: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True)
class RemoteFile:
    """A file to write on a host."""

    path: str
    content: bytes = field(repr=False)
    mode: int
    owner: str = "root"
    group: str = "root"

    def facts(self, size: int | None = None) -> dict[str, str | int]:
        """For the receiver: everything but the content. size: of the content, if it is not here."""
        length = len(self.content) if size is None else size
        return {"path": self.path, "size": length, "mode": self.mode, "owner": self.owner, "group": self.group}


class Host:
    """A connected host. Every method may raise HostError; methods may be called concurrently."""

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
        """Run a shell command and wait for it, whatever its exit code.

        root: run it as root. timeout: seconds, after which the command is killed on the host too. If this coroutine is
        cancelled or the connection breaks, the command continues until that timeout.
        """
        async with self._session(_bounded(command, timeout), root=root, timeout=timeout, step=step) as process:
            _feed(process, stdin)
            out, err = await process.communicate()
        return self._completed(process, out, err, step)

    async def check(self, command: str, *, stdin: bytes = b"", root: bool = True, timeout: float = 60, step: str) -> bytes:
        """`run` a command and return its stdout. Raises HostError with the last lines of stderr if it failed."""
        done = await self.run(command, stdin=stdin, root=root, timeout=timeout, step=step)
        self._require_success(done, step)
        return done.stdout

    async def run_python(
        self, program: str, data: bytes, *, root: bool = True, timeout: float = 60, step: str, python: str = "python3"
    ) -> Completed:
        """Run the `main` of a Python program (standard library of 3.7 only) with the host's python; `data` is its stdin."""
        done = await self.run(_loader(python), stdin=_packed(program) + data, root=root, timeout=timeout, step=step)
        self._require_python(done, step, python)
        return done

    async def write(
        self, path: str, content: bytes, *, mode: int, owner: str = "root", group: str = "root", step: str, timeout: float = 60
    ) -> None:
        """Write a file atomically and durably, replacing an existing one."""
        await self.write_all([RemoteFile(path, content, mode, owner, group)], step=step, timeout=timeout)

    async def write_all(self, files: Sequence[RemoteFile], *, step: str, timeout: float = 60) -> None:
        """Write files that belong together: all are on disk before the first one is replaced, at one moment for a reader."""
        sent = _header(files) + b"".join(file.content for file in files)
        self._require_success(
            await self.run_python(inspect.getsource(receive), sent, timeout=timeout, step=step), step, "write"
        )

    async def upload(
        self, local: Path, path: str, *, mode: int, step: str, progress: Progress | None = None, timeout: float | None = None
    ) -> None:
        """Write a large file atomically, owned by root. progress: called with bytes done and bytes in total.

        timeout: seconds; by default enough for a slow line.
        """
        try:
            size, file = local.stat().st_size, local.open("rb")
        except OSError as error:
            raise HostError(self.name, step, f"cannot read local file {local}: {error.strerror}") from error
        header = _header([RemoteFile(path, b"", mode)], size)
        timeout = timeout if timeout is not None else 60 + size / _UPLOAD_BYTES_PER_SECOND
        command = _bounded(_loader("python3"), timeout)
        with file:
            async with self._session(command, root=True, timeout=timeout, step=step) as process:
                with contextlib.suppress(
                    BrokenPipeError, ConnectionResetError
                ):  # the receiver has exited; its error is reported below
                    process.stdin.write(_packed(inspect.getsource(receive)) + header)
                    await _stream(file, size, process, progress)
                    process.stdin.write_eof()
                out, err = await process.communicate()
        done = self._completed(process, out, err, step)
        self._require_python(done, step, "python3")
        self._require_success(done, step, "upload")

    async def lines(self, command: str, *, root: bool = True, step: str) -> AsyncIterator[str]:
        """The output of a command, line by line, while it runs.

        Close the iterator to end the session: the command then ends at its next output, or earlier if it notices.
        """
        async with self._session(command, root=root, timeout=None, step=step) as process:
            _feed(process, b"")
            async for line in process.stdout:
                if line:  # the last one may be empty
                    yield line.decode("utf-8", "replace").rstrip("\n")
            err = await process.stderr.read()
            await process.wait_closed()
        self._require_success(self._completed(process, b"", err, step), step)

    async def forward(self, address: str, port: int) -> int:
        """Forward a local port on 127.0.0.1 to `address:port` as seen from the host, until the host is closed."""
        step = f"forward {host_port(address, port)}"
        try:
            listener = await self._connection.forward_local_port("127.0.0.1", 0, address, port)
        except (OSError, asyncssh.Error) as error:
            self._raise(error, step)
        return listener.get_port()

    async def refuses(self, address: str, port: int) -> bool:
        """Whether the host refuses a connection to `address:port`: no process listens.

        Raises HostError if the SSH server does not forward it, so that nothing is known of the process.
        """
        step = f"forward {host_port(address, port)}"
        try:
            async with asyncio.timeout(_REFUSAL_SECONDS):
                _, writer = await self._connection.open_connection(address, port)
        except asyncssh.ChannelOpenError as error:
            if error.code == asyncssh.OPEN_CONNECT_FAILED and not self._connection.is_closed():
                return True
            if error.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED:
                remedy = (
                    "set AllowTcpForwarding to local or yes in its sshd_config (DisableForwarding and PermitOpen forbid it too)"
                )
                raise HostError(self.name, step, f"forbidden by the SSH server: {error.reason}", remedy=remedy) from error
            self._raise(error, step)
        except TimeoutError:
            return False
        except (OSError, asyncssh.Error) as error:
            self._raise(error, step)
        writer.close()
        return False

    async def close(self) -> None:
        """Disconnect. Commands still running on the host continue."""
        self._connection.close()
        with contextlib.suppress(TimeoutError, OSError, asyncssh.Error):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._connection.wait_closed()
        self._connection.abort()
        if self._on_close is not None:
            await self._on_close()

    @contextlib.asynccontextmanager
    async def _session(self, command: str, *, root: bool, timeout: float | None, step: str) -> AsyncIterator[Process]:
        """A running command; the session is closed at the end of the block."""
        process: Process | None = None
        async with self._slots:
            try:
                if root:
                    await self._find_root()
                async with asyncio.timeout(timeout):
                    if root:
                        process = await self._root.start(self._connection, command)
                    else:
                        process = await start_session(self._connection, as_login(command))
                    yield process
            except TimeoutError as error:
                raise HostError(
                    self.name, step, f"not finished after {timeout:g} s", remedy="check the load of the host"
                ) from error
            except (OSError, asyncssh.Error) as error:
                self._raise(error, step)
            finally:
                if process is not None:
                    process.close()

    async def _find_root(self) -> None:
        """Before the timeout of the command starts, since it may prompt for a password."""
        try:
            await self._root.find(self._connection)
        except TimeoutError as error:
            raise HostError(self.name, "sudo", "no answer from sudo", remedy="check the load of the host") from error

    def _completed(self, process: Process, out: bytes, err: bytes, step: str) -> Completed:
        code = process.returncode
        if code is None:
            self._raise(asyncssh.ConnectionLost("before the command had finished"), step)
        return Completed(code if code >= 0 else 128 - code, out, err)

    def _require_success(self, done: Completed, step: str, what: str = "") -> None:
        if done.exit_code:
            output = last_lines(done.stderr or done.stdout)
            code = f"exit code {done.exit_code}" if not what else f"cannot {what}"
            separator = "\n" if "\n" in output else " "
            raise HostError(self.name, step, f"{code}:{separator}{output}" if output else code)

    def _require_python(self, done: Completed, step: str, python: str) -> None:
        if done.exit_code in (126, 127):
            raise HostError(
                self.name,
                step,
                f"{python} not found on the host",
                remedy="install Python 3 (apt-get install python3, dnf install python3)",
            )
        if b"future feature annotations is not defined" in done.stderr:
            raise HostError(self.name, step, f"{python} on the host is older than 3.7", remedy="install a newer version")

    def _raise(self, error: Exception, step: str) -> NoReturn:
        if isinstance(error, asyncssh.ChannelOpenError) and not self._connection.is_closed():
            raise HostError(self.name, step, f"refused by the SSH server: {error.reason}") from error
        raise HostError(
            self.name,
            step,
            "SSH connection lost; the step may or may not have completed",
            remedy="rerun the command; completed steps are skipped",
        ) from error


def last_lines(output: bytes, count: int = _LINES_SHOWN) -> str:
    """The last lines of a program's output, for an error message."""
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return "\n".join(line.rstrip() for line in lines[-count:])


def _bounded(command: str, seconds: float) -> str:
    """The command with a timeout enforced on the host, since sshd forwards no signals to processes of root.

    It fires a little after the local timeout, which reports the error.
    """
    return f"exec timeout -k 5 {math.ceil(seconds) + 1} sh -c {shlex.quote(command)}"


def _loader(python: str) -> str:
    return f"exec {shlex.quote(python)} -I -c {shlex.quote(_LOADER)}"


def _packed(program: str) -> bytes:
    source = program.encode()
    return b"%d\n" % len(source) + source


def _header(files: Sequence[RemoteFile], size: int | None = None) -> bytes:
    """size: of a file that is streamed afterwards."""
    return json.dumps([file.facts(size) for file in files]).encode() + b"\n"


def _feed(process: Process, stdin: bytes) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it exited without reading; the exit code is checked
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
