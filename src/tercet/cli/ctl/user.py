"""user add, delete, get, list, passwd, grant-role and revoke-role."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tercet.cli.ctl.command import Command
from tercet.cli.ctl.errors import bad_arguments
from tercet.cli.ctl.flags import Flag
from tercet.cli.ctl.output import Shown
from tercet.cli.ctl.password import ask_new_password, read_word
from tercet.cli.ctl.role import shown_role
from tercet.client import methods
from tercet.proto import auth_pb2, rpc_pb2

if TYPE_CHECKING:
    from tercet.cli.ctl.session import Session


async def _add(session: Session, arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise bad_arguments("user add command requires user name as its argument")
    user, password = _new_user(session, arguments[0])
    options = auth_pb2.UserAddOptions(no_password=session.values.bool("no-password"))
    printer = session.open()
    async with session.client() as client:
        request = rpc_pb2.AuthUserAddRequest(name=user, password=password, options=options)
        answer = await client.call(methods.USER_ADD, request)
    printer.show(Shown(answer, [f"User {user} created"]))


def _new_user(session: Session, argument: str) -> tuple[str, str]:
    """Name and password, from `name:password`, a flag, the terminal or stdin."""
    if session.values.bool("no-password"):
        return argument, ""
    given = session.values.string("new-user-password")
    if given:
        return argument, given
    user, colon, password = argument.partition(":")
    if not colon:
        return argument, _new_password(session, argument)
    if not user:
        raise bad_arguments("empty user name is not allowed")
    return user, password


def _new_password(session: Session, user: str) -> str:
    """From the terminal or, with --interactive=false, from stdin."""
    if session.values.bool("interactive"):
        return ask_new_password(session.stdin, session.out, user)
    return read_word(session.stdin)


async def _delete(session: Session, arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise bad_arguments("user delete command requires user name as its argument")
    printer = session.open()
    async with session.client() as client:
        answer = await client.call(methods.USER_DELETE, rpc_pb2.AuthUserDeleteRequest(name=arguments[0]))
    printer.show(Shown(answer, [f"User {arguments[0]} deleted"]))


async def _get(session: Session, arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise bad_arguments("user get command requires user name as its argument")
    user = arguments[0]
    printer = session.open()
    async with session.client() as client:
        answer = await client.call(methods.USER_GET, rpc_pb2.AuthUserGetRequest(name=user))
        if not session.values.bool("detail"):
            printer.show(Shown(answer, [f"User: {user}", " ".join(("Roles:", *answer.roles))], fields=None))
            return
        printer.line(f"User: {user}")
        for role in answer.roles:
            printer.line()
            printer.show(shown_role(role, await client.call(methods.ROLE_GET, rpc_pb2.AuthRoleGetRequest(role=role))))


async def _list(session: Session, arguments: list[str]) -> None:
    if arguments:
        raise bad_arguments("user list command requires no arguments")
    printer = session.open()
    async with session.client() as client:
        answer = await client.call(methods.USER_LIST, rpc_pb2.AuthUserListRequest())
    printer.show(Shown(answer, answer.users, fields=None))


async def _passwd(session: Session, arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise bad_arguments("user passwd command requires user name as its argument")
    password = _new_password(session, arguments[0])
    printer = session.open()
    async with session.client() as client:
        request = rpc_pb2.AuthUserChangePasswordRequest(name=arguments[0], password=password)
        answer = await client.call(methods.USER_CHANGE_PASSWORD, request)
    printer.show(Shown(answer, ["Password updated"]))


async def _grant_role(session: Session, arguments: list[str]) -> None:
    if len(arguments) != 2:
        raise bad_arguments("user grant command requires user name and role name as its argument")
    user, role = arguments
    printer = session.open()
    async with session.client() as client:
        answer = await client.call(methods.USER_GRANT_ROLE, rpc_pb2.AuthUserGrantRoleRequest(user=user, role=role))
    printer.show(Shown(answer, [f"Role {role} is granted to user {user}"]))


async def _revoke_role(session: Session, arguments: list[str]) -> None:
    if len(arguments) != 2:
        raise bad_arguments("user revoke-role requires user name and role name as its argument")
    user, role = arguments
    printer = session.open()
    async with session.client() as client:
        answer = await client.call(methods.USER_REVOKE_ROLE, rpc_pb2.AuthUserRevokeRoleRequest(name=user, role=role))
    printer.show(Shown(answer, [f"Role {role} is revoked from user {user}"]))


_INTERACTIVE = Flag("interactive", "bool", True, "ask for the password on the terminal; if false, read it from stdin")

USER = Command(
    "user",
    "Manage users",
    commands=(
        Command(
            "add",
            "Add a user",
            "<user name or user:password> [options]",
            (
                _INTERACTIVE,
                Flag("new-user-password", "string", "", "the password"),
                Flag("no-password", "bool", False, "no password: the user authenticates by certificate only"),
            ),
            _add,
            examples=("tercetctl user add app", "echo secret | tercetctl user add app --interactive=false"),
        ),
        Command("delete", "Delete a user", "<user name>", run=_delete),
        Command(
            "get",
            "Show the roles of a user",
            "<user name> [options]",
            (Flag("detail", "bool", False, "also show the permissions of these roles"),),
            _get,
        ),
        Command("list", "List all users", run=_list),
        Command("passwd", "Change the password of a user", "<user name> [options]", (_INTERACTIVE,), _passwd),
        Command("grant-role", "Give a user a role", "<user name> <role name>", run=_grant_role),
        Command("revoke-role", "Take a role from a user", "<user name> <role name>", run=_revoke_role),
    ),
)
