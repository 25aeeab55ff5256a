"""auth enable, disable and status."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tercet.cli.ctl.command import Command
from tercet.cli.ctl.errors import bad_arguments
from tercet.cli.ctl.output import Shown
from tercet.cli.ctl.output.rows import boolean
from tercet.client import methods
from tercet.errors import StatusError
from tercet.proto import rpc_pb2

if TYPE_CHECKING:
    from tercet.cli.ctl.session import Session

_ROOT = "root"
_NO_ROOT_ROLE = "etcdserver: root user does not have root role"


async def _enable(session: Session, arguments: list[str]) -> None:
    """Enable authentication; first give the user root the role root, if it lacks it."""
    if arguments:
        raise bad_arguments("auth enable command does not accept any arguments")
    printer = session.open()
    async with session.client() as client:
        try:
            await client.call(methods.AUTH_ENABLE, rpc_pb2.AuthEnableRequest())
        except StatusError as error:
            if error.message != _NO_ROOT_ROLE:
                raise
            await client.call(methods.ROLE_ADD, rpc_pb2.AuthRoleAddRequest(name=_ROOT))
            await client.call(methods.USER_GRANT_ROLE, rpc_pb2.AuthUserGrantRoleRequest(user=_ROOT, role=_ROOT))
            await client.call(methods.AUTH_ENABLE, rpc_pb2.AuthEnableRequest())
    printer.line("Authentication Enabled")


async def _disable(session: Session, arguments: list[str]) -> None:
    if arguments:
        raise bad_arguments("auth disable command does not accept any arguments")
    printer = session.open()
    async with session.client() as client:
        await client.call(methods.AUTH_DISABLE, rpc_pb2.AuthDisableRequest())
    printer.line("Authentication Disabled")


async def _status(session: Session, arguments: list[str]) -> None:
    if arguments:
        raise bad_arguments("auth status command does not accept any arguments")
    printer = session.open()
    async with session.client() as client:
        answer = await client.call(methods.AUTH_STATUS, rpc_pb2.AuthStatusRequest())
    lines = [f"Authentication Status: {boolean(answer.enabled)}", f"AuthRevision: {answer.authRevision}"]
    printer.show(Shown(answer, lines, fields=None))


AUTH = Command(
    "auth",
    "Switch authentication on and off",
    commands=(
        Command("enable", "Switch authentication on", run=_enable, description="The user root must exist: `user add root`."),
        Command("disable", "Switch authentication off", run=_disable, examples=("tercetctl --user root auth disable",)),
        Command("status", "Show whether authentication is on", run=_status),
    ),
)
