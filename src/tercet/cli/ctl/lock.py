"""lock: hold a named lock until a signal arrives, or while a command runs."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

from tercet.cli.ctl.command import Command
from tercet.cli.ctl.errors import CommandError, Exit, bad_arguments
from tercet.cli.ctl.execute import ExecutionError, execute
from tercet.cli.ctl.flags import Flag
from tercet.cli.ctl.interrupts import Interrupts
from tercet.client import LeaseSession, Place
from tercet.proto import rpc_pb2

if TYPE_CHECKING:
    from tercet.cli.ctl.session import Session

_DEFAULT_TTL_SECONDS = 60


async def _lock(session: Session, arguments: list[str]) -> None:
    if not arguments:
        raise bad_arguments("lock takes a lock name argument and an optional command to execute")
    session.open()
    name, *words = arguments
    ttl = session.values.int("ttl")
    if ttl <= 0:
        session.warn_log(
            "WithTTL(): TTL should be > 0, preserving current TTL", **{"current-session-ttl": _DEFAULT_TTL_SECONDS}
        )
        ttl = _DEFAULT_TTL_SECONDS
    async with session.client(timeout=math.inf) as client, LeaseSession(client, ttl_seconds=ttl) as lease:
        place = Place(lease, os.fsencode(name))
        with Interrupts() as interrupts:
            try:
                header = await interrupts.race(_acquire(place, lease))
                if words:
                    await _run(session, words, place, header.revision)
                else:
                    await _hold(session, place, lease, interrupts)
            finally:
                await place.leave()


async def _acquire(place: Place, lease: LeaseSession) -> rpc_pb2.ResponseHeader:
    """Wait for the lock. Returns the header that etcdctl takes the lock's revision from."""
    entered = await place.enter()
    if not await place.wait_turn():
        return entered
    own = await lease.client.kv.range(rpc_pb2.RangeRequest(key=place.key))
    if not own.kvs:
        raise CommandError(Exit.ERROR, "mutex: session is expired")
    return own.header


async def _run(session: Session, words: list[str], place: Place, revision: int) -> None:
    variables = {"ETCD_LOCK_KEY": os.fsdecode(place.key), "ETCD_LOCK_REV": str(revision)}
    try:
        await execute(session, words, variables)
    except ExecutionError as error:
        raise CommandError(error.exit_code, str(error)) from error


async def _hold(session: Session, place: Place, lease: LeaseSession, interrupts: Interrupts) -> None:
    own = await lease.client.kv.range(rpc_pb2.RangeRequest(key=place.key))
    if not own.kvs:
        raise CommandError(Exit.ERROR, "lock lost on init")
    session.printer.get(own)
    session.out.flush()
    if not await interrupts.received_before(lease.lost):
        raise CommandError(Exit.ERROR, "session expired")


LOCK = Command(
    "lock",
    "Hold a named lock",
    "<lockname> [exec-command arg1 arg2 ...]",
    (Flag("ttl", "int", 10, "seconds after which the lock is free if this process dies"),),
    _lock,
    description=(
        "Without a command the lock's key is printed, and the lock held until SIGINT or SIGTERM.\n"
        "With a command the lock is held while it runs, with ETCD_LOCK_KEY and ETCD_LOCK_REV in its environment;\n"
        "the exit status is the command's."
    ),
    examples=("tercetctl lock nightly", "tercetctl lock nightly ./backup.sh"),
)
