"""member list."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tercet.cli.ctl.command import Command
from tercet.cli.ctl.errors import CommandError, Exit
from tercet.cli.ctl.flags import Flag
from tercet.gotext.strconv import quote
from tercet.proto import rpc_pb2

if TYPE_CHECKING:
    from tercet.cli.ctl.session import Session


async def _list(session: Session, _: list[str]) -> None:
    consistency = session.values.string("consistency")
    if consistency not in ("l", "s"):
        raise CommandError(Exit.BAD_FEATURE, f"unknown consistency flag {quote(consistency.encode())}")
    printer = session.open()
    async with session.client() as client:
        printer.member_list(await client.cluster.member_list(rpc_pb2.MemberListRequest(linearizable=consistency == "l")))


MEMBER = Command(
    "member",
    "Membership related commands",
    commands=(
        Command(
            "list",
            "Lists all members in the cluster",
            flags=(Flag("consistency", "string", "l", "Linearizable(l) or Serializable(s)"),),
            run=_list,
            description=(
                "The fields of the simple format are: ID, status, name, peer addresses, client addresses, is learner."
            ),
            examples=("tercetctl member list -w table",),
        ),
    ),
)
