"""How do we become root on a host? Not at all where the login is root; else by sudo, with a password only if sudo asks for one.

The password goes over stdin, and only after sudo's own prompt (a text that nothing else prints) has been seen on stderr: were
it sent unasked, it would end up in the command's input. A second prompt means that it was wrong; it is not tried again, since
some hosts lock a login after a few wrong ones.
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
Way: TypeAlias = Literal["root", "free", "password"]

ROOT = "root"
# Administrators' programs (useradd, sysctl) are not in everyone's PATH, and messages that we read are to be English ones.
_ENVIRONMENT = "LC_ALL=C; PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin; export LC_ALL PATH; "
_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
_SUDO_SECONDS = 30.0  # sudo itself waits a few seconds after a wrong password, and longer where a directory service is slow
_WHICH_WAY = 'if [ "$(id -u)" = 0 ]; then echo root; else exec sudo -n -- echo free; fi'


def as_login(command: str) -> str:
    """A line for the login's shell, whichever that is, that runs `command` with sh."""
    return f"sh -c {shlex.quote(_ENVIRONMENT + command)}"


async def begin(connection: asyncssh.SSHClientConnection, line: str) -> Process:
    """A command in a session of its own. Raises asyncssh.Error, OSError.

    sshd allows few sessions at once (MaxSessions), and counts one until it has noticed that its command has ended, which may be
    later than we: where it refuses, we try again. Nothing has been run then.
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
    """Starts commands as root over one connection. The first one finds out how; the password is asked for at most once."""

    def __init__(self, name: str, user: str, *, sudo: bool, ask_password: AskPassword | None) -> None:
        self._name = name
        self._user = user
        self._sudo = sudo
        self._ask = ask_password
        self._way: Way | None = "root" if user == ROOT else None
        self._password = ""
        self._failure: HostError | None = None
        self._finding = asyncio.Lock()
        nonce = secrets.token_hex(8)
        self._prompt = f"[sudo {nonce}]"
        self._ready = f"[ready {nonce}]"

    async def find(self, connection: asyncssh.SSHClientConnection) -> Way:
        """How root is to be had; found once, and a failure is remembered, so that a wrong password is not tried again.

        May wait for a person who types a password. Raises HostError; asyncssh.Error, OSError, TimeoutError.
        """
        async with self._finding:
            if self._failure is not None:
                raise self._failure
            if self._way is None:
                try:
                    self._way = await self._find(connection)
                except HostError as error:
                    self._failure = error
                    raise
            return self._way

    async def start(self, connection: asyncssh.SSHClientConnection, command: str) -> Process:
        """`command` running as root; all of its stdin is still to come. Raises what `find` does."""
        return await self._start(connection, command, await self.find(connection))

    async def _find(self, connection: asyncssh.SSHClientConnection) -> Way:
        """A password has been tried when this returns."""
        async with asyncio.timeout(_SUDO_SECONDS):
            result = await connection.run(as_login(_WHICH_WAY), encoding=None, stdin=asyncssh.DEVNULL)
        words = _text(result.stdout)
        if words == "root":
            return "root"
        if not self._sudo:
            raise self._error(f"the login is {self._user}, not root, and the cluster file says not to use sudo")
        if words == "free":
            return "free"
        if "password is required" not in _text(result.stderr):
            raise self._explain(_text(result.stderr))
        if self._ask is None:
            raise self._error(
                f"sudo asks {self._user} for a password, and there is nobody to ask for it",
                remedy="run it in a terminal, or let the login use sudo without one (NOPASSWD)",
            )
        self._password = await self._ask(f"{self._name}: password of {self._user} for sudo: ")
        async with asyncio.timeout(_SUDO_SECONDS):
            process = await self._start(connection, "true", "password")
            await process.wait_closed()
        return "password"

    async def _start(self, connection: asyncssh.SSHClientConnection, command: str, way: Way) -> Process:
        if way == "root":
            return await begin(connection, as_login(command))
        if way == "free":
            return await begin(connection, f"env LC_ALL=C sudo -n -- {as_login(command)}")
        announced = as_login(f"printf %s {shlex.quote(self._ready)} >&2; {command}")
        line = f"env LC_ALL=C sudo -S -p {shlex.quote(self._prompt)} -- {announced}"
        process = await begin(connection, line)
        try:
            await self._pass(process)
        except BaseException:
            process.close()
            raise
        return process

    async def _pass(self, process: Process) -> None:
        """Get past sudo: to where the command itself runs. It may ask, or not (it remembers for some minutes)."""
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
                raise self._error(f"sudo does not accept this password for {self._user}", remedy="nothing was changed here")
            process.stdin.write(self._password.encode() + b"\n")
            asked = True

    def _explain(self, said: str) -> HostError:
        last = said.strip().splitlines()[-1].strip() if said.strip() else "sudo ended without a word"
        if "not found" in last and "sudo" in last:
            return self._error(
                f"sudo is not installed, and the login is {self._user}",
                remedy="install sudo, or set ssh.user: root",
            )
        if "tty" in last:
            return self._error(
                f"sudo wants a terminal: {last}", remedy=f"add 'Defaults:{self._user} !requiretty' to its sudoers"
            )
        return self._error(
            f"{self._user} cannot become root: {last.removeprefix('sudo: ')}", remedy="see its sudoers, or set ssh.user"
        )

    def _error(self, text: str, *, remedy: str = "") -> HostError:
        return HostError(self._name, "sudo", text, remedy=remedy)


def _text(data: bytes | str | None) -> str:
    return data.decode("utf-8", "replace").strip() if isinstance(data, bytes) else (data or "").strip()
