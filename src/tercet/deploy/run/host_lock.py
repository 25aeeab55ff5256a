"""One change of a cluster at a time, whoever makes it from wherever: each host lends its lock to one operator.

    async with locked_hosts(hosts.values(), unit="etcd"):
        ...

The lock is flock's on a file in /run, held by a small command on the host that lives as long as our SSH session: it prints a
line now and then, and ends when nobody is there to read it. So nothing has to be cleaned up after a cut, wherever the cut was,
and an `apply` that follows at once waits for that moment. The file says who holds it, for the one who has to wait.

It keeps operators apart, not attackers, and it is no lease: a change goes on when a lock is lost with its connection, since the
connection is what the change is made over.
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
WAIT_SECONDS = 4  # longer than a holder needs to notice that its operator is gone
_BEAT_SECONDS = 1
_ANSWER_SECONDS = 30.0
_HELD = "held"


@contextlib.asynccontextmanager
async def locked_hosts(
    hosts: Collection[Host], *, unit: str, directory: str = "/run", wait_seconds: int = WAIT_SECONDS
) -> AsyncIterator[None]:
    """Hold the locks of all these hosts. Raises HostError naming who holds one; then none is held.

    unit: what is being changed; two clusters on one host do not wait for each other.
    """
    command = _command(f"{directory}/tercet-deploy-{unit}.lock", _who(), wait_seconds)
    async with contextlib.AsyncExitStack() as stack:
        holders = [host.lines(command, step=STEP) for host in hosts]
        for holder in holders:
            stack.push_async_callback(_let_go, holder)
        for result in await asyncio.gather(*map(_first_line, hosts, holders), return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
        yield


async def _first_line(host: Host, holder: AsyncIterator[str]) -> None:
    """Wait until the lock is ours."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            said = await anext(holder, "")
    except TimeoutError as error:
        raise HostError(host.name, STEP, "no answer", remedy="is the host overloaded?") from error
    if said != _HELD:
        who = said or "somebody who does not say who they are"
        raise HostError(
            host.name,
            STEP,
            f"this cluster is being changed by {who}",
            remedy="wait until that has ended, then run the same again",
        )


async def _let_go(holder: AsyncIterator[str]) -> None:
    aclose = getattr(holder, "aclose", None)
    if aclose is not None:
        with contextlib.suppress(HostError):
            await aclose()


def _command(path: str, who: str, wait_seconds: int) -> str:
    """Takes the lock and says so, or says who has it. Descriptor 9 is the lock; the pauses must not keep it alive."""
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
    except (KeyError, OSError):  # a process of a user without a name
        user = f"user {os.getuid()}"
    return f"{user} on {socket.gethostname()} (process {os.getpid()})"
