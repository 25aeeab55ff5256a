"""Comparison of the members' data: the same HashKV at the same revision."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from tercet.deploy.members.changes import hash_of
from tercet.deploy.members.members import Members
from tercet.deploy.plan.plan import Phase, Progress, Step
from tercet.deploy.ssh.host_error import HostError
from tercet.errors import StatusError
from tercet.proto import rpc_pb2


def compare_phase(members: Members, names: Collection[str]) -> Phase:
    """One step: these members have the same data."""

    async def work(_progress: Progress) -> str:
        return await _compare(members, list(names))

    return Phase("compare", (Step(None, "compare the members", work),))


async def _compare(members: Members, names: list[str]) -> str:
    """At their newest revision, or below if clients write meanwhile. Raises HostError."""
    try:
        found = await _hashes(members, names, 0)
        revision = min(one.header.revision for one in found.values())
        if revision > max(one.compact_revision for one in found.values()):
            found = await _hashes(members, names, revision)
    except StatusError as error:
        raise HostError("cluster", "compare", error.message, remedy="rerun the command") from error
    first, *others = names
    for other in others:
        if (found[other].hash, found[other].compact_revision) != (found[first].hash, found[first].compact_revision):
            text = f"its data differs from that of {first} at revision {revision}"
            raise HostError(other, "compare", text, remedy="rerun the command; if it fails again, replace this member")
    return f"hash {found[first].hash:x} at revision {revision} on {len(found)} members"


async def _hashes(members: Members, names: list[str], revision: int) -> dict[str, rpc_pb2.HashKVResponse]:
    answers = await asyncio.gather(*(hash_of(members, name, revision) for name in names))
    return dict(zip(names, answers, strict=True))
