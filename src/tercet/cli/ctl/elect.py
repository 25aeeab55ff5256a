"""elect: campaign for a leadership and hold it until a signal arrives, or follow who leads."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

from tercet.cli.ctl.command import Command
from tercet.cli.ctl.errors import CommandError, Exit, bad_arguments
from tercet.cli.ctl.flags import Flag
from tercet.cli.ctl.interrupts import Interrupts
from tercet.client import ClusterChannel, LeaseSession, Place, observe
from tercet.errors import StatusError
from tercet.proto import rpc_pb2

if TYPE_CHECKING:
    from tercet.cli.ctl.session import Session

_TTL_SECONDS = 60


async def _elect(session: Session, arguments: list[str]) -> None:
    if len(arguments) not in (1, 2):
        raise bad_arguments("elect takes one election name argument and an optional proposal argument")
    listens = session.values.bool("listen")
    session.open()
    if len(arguments) == 1 and not listens:
        raise bad_arguments("no proposal argument but -l not set")
    if len(arguments) == 2 and listens:
        raise bad_arguments("proposal given but -l is set")
    async with session.client(timeout=math.inf) as client:
        with Interrupts() as interrupts:
            if listens:
                await _listen(session, client, arguments[0], interrupts)
            else:
                await _campaign(session, client, arguments, interrupts)


async def _listen(session: Session, client: ClusterChannel, name: str, interrupts: Interrupts) -> None:
    async def follow() -> None:
        try:
            async for leader in observe(client, os.fsencode(name)):
                session.printer.get(leader)
                session.out.flush()
        except StatusError:
            pass  # etcdctl reports the end, not its reason

    try:
        await interrupts.race(follow())
    except CommandError:
        if interrupts.received.is_set():
            return
        raise
    raise CommandError(Exit.ERROR, "elect: observer lost")


async def _campaign(session: Session, client: ClusterChannel, arguments: list[str], interrupts: Interrupts) -> None:
    name, proposal = map(os.fsencode, arguments)
    async with LeaseSession(client, ttl_seconds=_TTL_SECONDS) as lease:
        place = Place(lease, name)
        try:
            await interrupts.race(_win(place, proposal))
            session.printer.get(await client.kv.range(rpc_pb2.RangeRequest(key=place.key)))
            session.out.flush()
            if not await interrupts.received_before(lease.lost):
                raise CommandError(Exit.ERROR, "elect: session expired")
        finally:
            await place.leave()


async def _win(place: Place, proposal: bytes) -> None:
    await place.enter(proposal)
    await place.wait_turn()


ELECT = Command(
    "elect",
    "Campaign in an election, or follow who leads",
    "<election-name> [proposal]",
    (Flag("listen", "bool", False, "print each leader instead of campaigning", short="l"),),
    _elect,
    description="The leader's key and proposal are printed. SIGINT or SIGTERM resigns the leadership.",
    examples=("tercetctl elect schedulers host-1", "tercetctl elect -l schedulers"),
)
