"""compaction, defrag and move-leader."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tercet.cli.ctl.command import Command
from tercet.cli.ctl.endpoint import CLUSTER_FLAG, chosen_endpoints
from tercet.cli.ctl.errors import CommandError, Exit, bad_arguments
from tercet.cli.ctl.flags import Flag
from tercet.cli.ctl.output import Shown
from tercet.cli.ctl.status_text import status_text
from tercet.client import AuthenticationError
from tercet.errors import StatusError
from tercet.gotext.duration import format_duration
from tercet.gotext.strconv import GoSyntaxError, parse_int
from tercet.proto import rpc_pb2

if TYPE_CHECKING:
    from tercet.cli.ctl.session import Session


async def _compaction(session: Session, arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise bad_arguments("compaction command needs 1 argument")
    try:
        revision = parse_int(arguments[0])
    except GoSyntaxError as error:
        raise CommandError(Exit.ERROR, str(error)) from error
    printer = session.open()
    async with session.client() as client:
        request = rpc_pb2.CompactionRequest(revision=revision, physical=session.values.bool("physical"))
        await client.kv.compact(request)
    printer.line(f"compacted revision {revision}")


async def _defrag(session: Session, _: list[str]) -> None:
    """Defragment one member at a time: a member is slow meanwhile."""
    printer = session.open()
    failed = False
    for endpoint in await chosen_endpoints(session):
        began = time.perf_counter_ns()
        try:
            async with session.client([endpoint]) as client:
                await client.maintenance.defragment(rpc_pb2.DefragmentRequest())
        except AuthenticationError:
            raise  # every endpoint would reject this user
        except StatusError as error:
            failed = True
            took = format_duration(time.perf_counter_ns() - began)
            session.warn(f"Failed to defragment etcd member[{endpoint}]. took {took}. ({status_text(error)})")
        else:
            took = format_duration(time.perf_counter_ns() - began)
            printer.line(f"Finished defragmenting etcd member[{endpoint}]. took {took}")
    if failed:
        raise CommandError(Exit.ERROR)


async def _move_leader(session: Session, arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise bad_arguments("move-leader command needs 1 argument")
    try:
        target = parse_int(arguments[0], 16, signed=False)
    except GoSyntaxError as error:
        raise bad_arguments(str(error)) from error
    printer = session.open()
    for endpoint in session.endpoints():
        async with session.client([endpoint]) as client:
            status = await client.maintenance.status(rpc_pb2.StatusRequest())
            if status.leader != status.header.member_id:
                continue
            answer = await client.maintenance.move_leader(rpc_pb2.MoveLeaderRequest(targetID=target))
            printer.show(Shown(answer, [f"Leadership transferred from {status.leader:x} to {target:x}"], fields=None))
            return
    raise bad_arguments(f"no leader endpoint given at [{' '.join(session.endpoints())}]")


COMPACTION = Command(
    "compaction",
    "Forget the history before a revision",
    "[options] <revision>",
    (Flag("physical", "bool", False, "wait until the old revisions are removed from the database"),),
    _compaction,
    examples=("tercetctl compaction 1000", "tercetctl compaction --physical 1000"),
)

DEFRAG = Command(
    "defrag",
    "Rewrite members' databases to release unused space",
    flags=(CLUSTER_FLAG,),
    run=_defrag,
    examples=("tercetctl defrag --cluster --command-timeout 60s",),
)

MOVE_LEADER = Command(
    "move-leader",
    "Hand the leadership over to another member",
    "<transferee-member-id>",
    run=_move_leader,
    description="--endpoints must include the leader's endpoint, which `endpoint status` shows.",
    examples=("tercetctl move-leader 8e9e05c52164694d",),
)
