"""Steps and checks for members that a recovery or a restore left behind; `members.left_behind` has the record and the reason.

before the first start of the recovered cluster: `recording`
at every later change: `fence` stops those that are reached, before anything else
when one joins again, its earlier data moved aside: `readmission`
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Collection, Iterable, Mapping

from tercet.deploy.cluster.cluster import Cluster, HostSpec
from tercet.deploy.members.left_behind import LeftBehind, LeftMember
from tercet.deploy.members.members import Members
from tercet.deploy.members.service import stop
from tercet.deploy.plan.plan import Progress, Step
from tercet.deploy.run.events import Event, OnEvent
from tercet.deploy.run.executor import DeployError
from tercet.deploy.ssh.remote import Host

_FENCE = "stop and disable the earlier member"


async def fence(cluster: Cluster, hosts: Mapping[str, Host], members: Members, on_event: OnEvent) -> None:
    """Stop and disable the members in the record on these hosts. Raises HostError.

    A host that has joined again, with another copy of the record, loses its entry instead: it has the file that says so, or a
    member of the recovered cluster names its member as started.
    """
    record = members.left_behind
    found = [(entry, host) for name, host in hosts.items() if (entry := record.of(name)) is not None]
    if not found:
        return
    listed = await members.listed() or []
    joined = {url for member in listed if member.name for url in member.peerURLs}
    await asyncio.gather(*(_fence(cluster, host, entry, record, joined, on_event) for entry, host in found))


async def _fence(
    cluster: Cluster, host: Host, entry: LeftMember, record: LeftBehind, joined: Collection[str], on_event: OnEvent
) -> None:
    command = f"if [ -e {shlex.quote(record.rejoined_path(entry))} ]; then echo rejoined; fi"
    if entry.peer_url in joined or (await host.check(command, step=_FENCE)).strip():
        record.discard(host.name)
        return
    await stop(host, f"{cluster.service.unit}.service", step=_FENCE)
    on_event(Event(host.name, _FENCE, "done", entry.text))


def require_current(names: Iterable[str], record: LeftBehind) -> None:
    """Raises DeployError with the hosts whose member was left behind: it is started again only by joining."""
    if refused := [error for name in names if (error := record.refusal(name, "plan")) is not None]:
        raise DeployError(refused)


def recording(record: LeftBehind, left: Collection[HostSpec], change: str, change_id: str) -> tuple[Step, ...]:
    """Before the first start of the recovered cluster, so that an interruption forgets no one. () if nobody is left behind."""

    async def work(_progress: Progress) -> str:
        record.add(left, change, change_id)
        return ""

    names = ", ".join(spec.name for spec in left)
    return (Step(None, "record the members left behind", work, f"{names}, in {record.path.name}"),) if left else ()


def readmission(record: LeftBehind, host: Host) -> tuple[Step, ...]:
    """After the earlier data was moved aside or replaced, before the new member starts. () for a host not in the record."""
    if (entry := record.of(host.name)) is None:
        return ()
    title, marker = "end the fencing of its earlier member", record.rejoined_path(entry)
    command = f"mkdir -p {shlex.quote(marker.rpartition('/')[0])} && touch {shlex.quote(marker)} && sync"

    async def work(_progress: Progress) -> str:
        await host.check(command, step=title)
        record.discard(host.name)
        return ""

    return (Step(host.name, title, work, f"{record.path.name}; {marker}"),)
