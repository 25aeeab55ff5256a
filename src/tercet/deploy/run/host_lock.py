"""Host lock: one change of a cluster at a time, from any machine.

    async with locked_hosts(hosts.values(), unit="etcd"):
        ...

The lock is a flock on a file in /run, held by a small shell command on the host. The command prints a line every second and
exits when its SSH session is gone, so that an aborted operator leaves no lock behind; the next `apply` waits for that moment.
The file names the holder for the error message.

The lock coordinates operators, it does not keep out attackers. It is not a lease: a change continues after its lock is lost
with the connection, since the connection is also what the change needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import socket
from collections.abc import AsyncIterator, Collection
from shlex import quote

from tercet.deploy.ssh.host_error import HostError
from tercet.deploy.ssh.remote import Host

STEP = "lock"
WAIT_SECONDS = 4  # longer than a holder needs to notice that its session is gone
_BEAT_SECONDS = 1
_ANSWER_SECONDS = 30.0
_HELD = "held"


@contextlib.asynccontextmanager
async def locked_hosts(
    hosts: Collection[Host], *, unit: str, directory: str = "/run", wait_seconds: int = WAIT_SECONDS
) -> AsyncIterator[None]:
    """Hold the locks of all these hosts. Raises HostError naming the holder of a taken lock; then none is held.

    unit: name of the systemd unit; two clusters on one host have separate locks.
    """
    command = _command(f"{directory}/tercet-deploy-{unit}.lock", _who(), wait_seconds)
    async with contextlib.AsyncExitStack() as stack:
        holders = [host.lines(command, step=STEP) for host in hosts]
        for holder in holders:
            stack.push_async_callback(_release, holder)
        for result in await asyncio.gather(*map(_first_line, hosts, holders), return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
        yield


async def _first_line(host: Host, holder: AsyncIterator[str]) -> None:
    """Wait until the lock is acquired."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            answer = await anext(holder, "")
    except TimeoutError as error:
        raise HostError(
            host.name, STEP, f"no answer within {_ANSWER_SECONDS:g} s", remedy="check the load of the host"
        ) from error
    if answer != _HELD:
        other = answer or "an unknown process"
        raise HostError(
            host.name,
            STEP,
            f"locked by {other}, which is changing this cluster",
            remedy="wait until it has finished, then rerun the command",
        )


async def _release(holder: AsyncIterator[str]) -> None:
    aclose = getattr(holder, "aclose", None)
    if aclose is not None:
        with contextlib.suppress(HostError):
            await aclose()


def _command(path: str, who: str, wait_seconds: int) -> str:
    """Take the lock and print a line, or print the holder. Descriptor 9 is the lock; `sleep` must not inherit it."""
    return f"""
exec 9>>{quote(path)} || exit 1
if ! flock -w {wait_seconds} 9; then head -n 1 {quote(path)}; exit 0; fi
printf '%s\\n' {quote(who)} >{quote(path)}
echo {_HELD}
while sleep {_BEAT_SECONDS} 9>&-; do echo {_HELD} || break; done 2>/dev/null
"""


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # the user id has no name
        user = f"user {os.getuid()}"
    return f"{user} on {socket.gethostname()} (process {os.getpid()})"
