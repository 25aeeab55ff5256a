"""role add, delete, get, list, grant-permission and revoke-permission."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tercet.cli.ctl.command import Command
from tercet.cli.ctl.errors import bad_arguments
from tercet.cli.ctl.flags import Flag, Values
from tercet.cli.ctl.output import Field, Shown
from tercet.client import methods, prefix_end
from tercet.gotext.strconv import quote
from tercet.proto import auth_pb2, rpc_pb2

if TYPE_CHECKING:
    from tercet.cli.ctl.session import Session

_TYPES = {"READ": auth_pb2.Permission.READ, "WRITE": auth_pb2.Permission.WRITE, "READWRITE": auth_pb2.Permission.READWRITE}
_NO_END = b"\0"


async def _add(session: Session, arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise bad_arguments("role add command requires role name as its argument")
    printer = session.open()
    async with session.client() as client:
        answer = await client.call(methods.ROLE_ADD, rpc_pb2.AuthRoleAddRequest(name=arguments[0]))
    printer.show(Shown(answer, [f"Role {arguments[0]} created"]))


async def _delete(session: Session, arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise bad_arguments("role delete command requires role name as its argument")
    printer = session.open()
    async with session.client() as client:
        answer = await client.call(methods.ROLE_DELETE, rpc_pb2.AuthRoleDeleteRequest(role=arguments[0]))
    printer.show(Shown(answer, [f"Role {arguments[0]} deleted"]))


async def _get(session: Session, arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise bad_arguments("role get command requires role name as its argument")
    printer = session.open()
    async with session.client() as client:
        answer = await client.call(methods.ROLE_GET, rpc_pb2.AuthRoleGetRequest(role=arguments[0]))
    printer.show(shown_role(arguments[0], answer))


async def _list(session: Session, arguments: list[str]) -> None:
    if arguments:
        raise bad_arguments("role list command requires no arguments")
    printer = session.open()
    async with session.client() as client:
        answer = await client.call(methods.ROLE_LIST, rpc_pb2.AuthRoleListRequest())
    names = " ".join(quote(name.encode()) for name in answer.roles)
    printer.show(Shown(answer, answer.roles, [("Roles", names)]))


async def _grant(session: Session, arguments: list[str]) -> None:
    if len(arguments) < 3:
        text = "role grant command requires role name, permission type, and key [endkey] as its argument"
        raise bad_arguments(text)
    role, kind = arguments[:2]
    if kind.upper() not in _TYPES:
        raise bad_arguments(f"invalid permission type: {kind}")
    key, range_end = _range(session.values, arguments[2:])
    permission = auth_pb2.Permission(permType=_TYPES[kind.upper()], key=key, range_end=range_end)
    printer = session.open()
    async with session.client() as client:
        request = rpc_pb2.AuthRoleGrantPermissionRequest(name=role, perm=permission)
        answer = await client.call(methods.ROLE_GRANT_PERMISSION, request)
    printer.show(Shown(answer, [f"Role {role} updated"]))


async def _revoke(session: Session, arguments: list[str]) -> None:
    if len(arguments) < 2:
        raise bad_arguments("role revoke-permission command requires role name and key [endkey] as its argument")
    role, shown_key = arguments[:2]
    key, range_end = _range(session.values, arguments[1:])
    printer = session.open()
    async with session.client() as client:
        request = rpc_pb2.AuthRoleRevokePermissionRequest(role=role, key=key, range_end=range_end)
        answer = await client.call(methods.ROLE_REVOKE_PERMISSION, request)
    what = b"key " + os.fsencode(shown_key)
    if range_end:
        what = b"range [" + os.fsencode(shown_key) + (b", <open ended>" if range_end == _NO_END else b", " + range_end + b")")
    printer.show(Shown(answer, [b"Permission of " + what + b" is revoked from role " + os.fsencode(role)]))


def _range(values: Values, arguments: list[str]) -> tuple[bytes, bytes]:
    """The keys of a permission: one, a range, a prefix, or all from a key on. An empty key means the first possible one."""
    prefix, from_key = values.bool("prefix"), values.bool("from-key")
    key = os.fsencode(arguments[0])
    if prefix and from_key and (not key or len(arguments) == 1):
        raise bad_arguments("--from-key and --prefix flags are mutually exclusive")
    if not key:
        return b"\0", _NO_END if prefix or from_key else b""
    if len(arguments) == 1:
        return key, prefix_end(key) if prefix else _NO_END if from_key else b""
    for name in ("prefix", "from-key"):
        if values.bool(name):
            raise bad_arguments(f"unexpected endkey argument with --{name} flag")
    return key, os.fsencode(arguments[1])


def shown_role(name: str, answer: rpc_pb2.AuthRoleGetResponse) -> Shown:
    """A role and its permissions."""
    lines: list[str | bytes] = [f"Role {name}"]
    for title, kind in (("KV Read:", auth_pb2.Permission.READ), ("KV Write:", auth_pb2.Permission.WRITE)):
        lines.append(title)
        if name == "root" and not answer.perm:
            lines.append("\t[, <open ended>")
        lines += [_permission(one) for one in answer.perm if one.permType in (kind, auth_pb2.Permission.READWRITE)]
    fields: list[Field] = []
    for one in answer.perm:
        fields.append(("PermType", " " + auth_pb2.Permission.Type.Name(one.permType)))
        fields += [("Key", quote(one.key)), ("RangeEnd", quote(one.range_end))]
    return Shown(answer, lines, fields)


def _permission(one: auth_pb2.Permission) -> bytes:
    if not one.range_end:
        return b"\t" + one.key
    end = b"<open ended>" if one.range_end == _NO_END else one.range_end + b")"
    line = b"\t[" + one.key + b", " + end
    return line + b" (prefix " + one.key + b")" if one.key and prefix_end(one.key) == one.range_end else line


def _range_flags(verb: str) -> tuple[Flag, ...]:
    return (
        Flag("prefix", "bool", False, f"{verb} all keys that begin with the key"),
        Flag("from-key", "bool", False, f"{verb} all keys from the key on, in byte order"),
    )


ROLE = Command(
    "role",
    "Manage roles and their permissions",
    commands=(
        Command("add", "Add a role", "<role name>", run=_add),
        Command("delete", "Delete a role", "<role name>", run=_delete),
        Command("get", "Show the permissions of a role", "<role name>", run=_get),
        Command("list", "List all roles", run=_list),
        Command(
            "grant-permission",
            "Give a role access to keys",
            "[options] <role name> <permission type> <key> [endkey]",
            _range_flags("grant"),
            _grant,
            description="The permission type is read, write or readwrite.",
            examples=("tercetctl role grant-permission app readwrite --prefix app/",),
        ),
        Command(
            "revoke-permission",
            "Take access to keys from a role",
            "<role name> <key> [endkey]",
            _range_flags("revoke"),
            _revoke,
            examples=("tercetctl role revoke-permission app --prefix app/",),
        ),
    ),
)
