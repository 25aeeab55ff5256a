"""Run commands as root: directly if the login is root, otherwise with sudo, with a password only if sudo requires one.

The password is sent over stdin only after sudo's prompt, a unique text, has appeared on stderr; sent unconditionally it could
end up in the stdin of the command. A second prompt means that the password was wrong; there is no retry, since some hosts lock
an account after a few failures.
"""

from __future__ import annotations

import asyncio
import secrets
import shlex
from collections.abc import Awaitable, Callable
from typing import Literal, TypeAlias

import asyncssh

from tercet.deploy.ssh.host_error import HostError

AskPassword: TypeAlias = Callable[[str], Awaitable[str]]
Process: TypeAlias = asyncssh.SSHClientProcess[bytes]
Method: TypeAlias = Literal["root", "free", "password"]

ROOT = "root"
# useradd and others may not be in the login's PATH; messages that are parsed must be English.
_ENVIRONMENT = "LC_ALL=C; PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin; export LC_ALL PATH; "
_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
_SUDO_SECONDS = 30.0  # sudo itself waits a few seconds after a wrong password, and longer where a directory service is slow
_DETECT_METHOD = 'if [ "$(id -u)" = 0 ]; then echo root; else exec sudo -n -- echo free; fi'


def as_login(command: str) -> str:
    """A line for the login shell, whichever it is, that runs `command` with sh."""
    return f"sh -c {shlex.quote(_ENVIRONMENT + command)}"


async def start_session(connection: asyncssh.SSHClientConnection, line: str) -> Process:
    """Start a command in a new session. Raises asyncssh.Error, OSError.

    sshd limits concurrent sessions (MaxSessions) and may count a session a little longer than its command runs, so a refused
    session is retried. A refused command has not run.
    """
    for pause in _PAUSES:
        try:
            return await connection.create_process(line, encoding=None)
        except asyncssh.ChannelOpenError:
            if connection.is_closed():
                raise
            await asyncio.sleep(pause)
    return await connection.create_process(line, encoding=None)


class Root:
    """Starts commands as root over one connection. The method is determined once; the password is requested at most once."""

    def __init__(self, name: str, user: str, *, sudo: bool, ask_password: AskPassword | None) -> None:
        self._name = name
        self._user = user
        self._sudo = sudo
        self._ask = ask_password
        self._method: Method | None = "root" if user == ROOT else None
        self._password = ""
        self._failure: HostError | None = None
        self._finding = asyncio.Lock()
        nonce = secrets.token_hex(8)
        self._prompt = f"[sudo {nonce}]"
        self._ready = f"[ready {nonce}]"

    async def find(self, connection: asyncssh.SSHClientConnection) -> Method:
        """Determine the method once. A failure is cached, so that a wrong password is not tried again.

        May prompt for a password. Raises HostError; asyncssh.Error, OSError, TimeoutError.
        """
        async with self._finding:
            if self._failure is not None:
                raise self._failure
            if self._method is None:
                try:
                    self._method = await self._find(connection)
                except HostError as error:
                    self._failure = error
                    raise
            return self._method

    async def start(self, connection: asyncssh.SSHClientConnection, command: str) -> Process:
        """Start `command` as root; its stdin is not yet used. Raises like `find`."""
        return await self._start(connection, command, await self.find(connection))

    async def _find(self, connection: asyncssh.SSHClientConnection) -> Method:
        """Determine the method, and verify the password if one is required."""
        async with asyncio.timeout(_SUDO_SECONDS):
            result = await connection.run(as_login(_DETECT_METHOD), encoding=None, stdin=asyncssh.DEVNULL)
        output = _text(result.stdout)
        if output == "root":
            return "root"
        if not self._sudo:
            raise self._error(f"the login is {self._user}, not root, and ssh.sudo is false")
        if output == "free":
            return "free"
        if "password is required" not in _text(result.stderr):
            raise self._explain(_text(result.stderr))
        if self._ask is None:
            raise self._error(
                f"sudo requires a password for {self._user}, and there is no terminal to prompt on",
                remedy="run it on a terminal, pass --sudo-password-file, or allow sudo without a password (NOPASSWD)",
            )
        self._password = await self._ask(f"{self._name}: sudo password for {self._user}: ")
        async with asyncio.timeout(_SUDO_SECONDS):
            process = await self._start(connection, "true", "password")
            await process.wait_closed()
        return "password"

    async def _start(self, connection: asyncssh.SSHClientConnection, command: str, method: Method) -> Process:
        if method == "root":
            return await start_session(connection, as_login(command))
        if method == "free":
            return await start_session(connection, f"env LC_ALL=C sudo -n -- {as_login(command)}")
        announced = as_login(f"printf %s {shlex.quote(self._ready)} >&2; {command}")
        line = f"env LC_ALL=C sudo -S -p {shlex.quote(self._prompt)} -- {announced}"
        process = await start_session(connection, line)
        try:
            await self._answer_prompt(process)
        except BaseException:
            process.close()
            raise
        return process

    async def _answer_prompt(self, process: Process) -> None:
        """Wait until sudo has started the command. sudo may prompt or use its cached credentials."""
        asked = False
        while True:
            try:
                said = await process.stderr.readuntil((self._prompt.encode(), self._ready.encode()))
            except asyncio.IncompleteReadError as ended:
                await process.wait_closed()
                if process.exit_status is None:
                    raise asyncssh.ConnectionLost("while sudo was running") from ended
                raise self._explain(_text(ended.partial)) from None
            if said.endswith(self._ready.encode()):
                return
            if asked:
                raise self._error(f"wrong sudo password for {self._user}", remedy="nothing was changed on this host")
            process.stdin.write(self._password.encode() + b"\n")
            asked = True

    def _explain(self, said: str) -> HostError:
        last = said.strip().splitlines()[-1].strip() if said.strip() else "sudo exited without a message"
        if "not found" in last and "sudo" in last:
            return self._error(
                f"sudo is not installed, and the login is {self._user}, not root",
                remedy="install sudo, or set ssh.user: root",
            )
        if "tty" in last:
            return self._error(
                f"sudo requires a terminal: {last}", remedy=f"add 'Defaults:{self._user} !requiretty' to the host's sudoers"
            )
        return self._error(
            f"{self._user} cannot become root: {last.removeprefix('sudo: ')}",
            remedy="check sudoers on the host, or set ssh.user",
        )

    def _error(self, text: str, *, remedy: str = "") -> HostError:
        return HostError(self._name, "sudo", text, remedy=remedy)


def _text(data: bytes | str | None) -> str:
    return data.decode("utf-8", "replace").strip() if isinstance(data, bytes) else (data or "").strip()
