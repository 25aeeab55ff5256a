"""lease grant, revoke, timetolive, list and keep-alive. IDs are hexadecimal on the command line and in the simple format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tercet.cli.ctl.command import Command
from tercet.cli.ctl.errors import CommandError, Exit, bad_arguments
from tercet.cli.ctl.flags import Flag
from tercet.cli.ctl.output import Field, Shown
from tercet.cli.ctl.status_text import status_text
from tercet.client import AuthenticationError, keep_alive, keep_alive_once, methods
from tercet.errors import StatusError
from tercet.gotext.json import Json, message_json
from tercet.gotext.strconv import GoSyntaxError, parse_int, quote
from tercet.proto import rpc_pb2

if TYPE_CHECKING:
    from tercet.cli.ctl.session import Session


async def _grant(session: Session, arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise bad_arguments("lease grant command needs TTL argument")
    try:
        ttl = parse_int(arguments[0])
    except GoSyntaxError as error:
        raise bad_arguments(f"bad TTL ({error})") from error
    printer = session.open()
    try:
        async with session.client() as client:
            answer = await client.call(methods.LEASE_GRANT, rpc_pb2.LeaseGrantRequest(TTL=ttl))
    except AuthenticationError:
        raise
    except StatusError as error:
        raise CommandError(Exit.ERROR, f"failed to grant lease ({status_text(error)})") from error
    shown = Shown(
        answer,
        [f"lease {answer.ID:016x} granted with TTL({answer.TTL}s)"],
        [_id_field(session, answer.ID), ("TTL", answer.TTL)],
        {**message_json(answer.header), "ID": answer.ID, "TTL": answer.TTL, "Error": answer.error},
        header_only=True,
    )
    printer.show(shown)


async def _revoke(session: Session, arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise bad_arguments("lease revoke command needs 1 argument")
    lease_id = _lease_id(arguments[0])
    printer = session.open()
    try:
        async with session.client() as client:
            answer = await client.call(methods.LEASE_REVOKE, rpc_pb2.LeaseRevokeRequest(ID=lease_id))
    except AuthenticationError:
        raise
    except StatusError as error:
        raise CommandError(Exit.ERROR, f"failed to revoke lease ({status_text(error)})") from error
    printer.show(Shown(answer, [f"lease {_hex(lease_id)} revoked"]))


async def _time_to_live(session: Session, arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise bad_arguments("lease timetolive command needs lease ID as argument")
    printer = session.open()
    with_keys = session.values.bool("keys")
    request = rpc_pb2.LeaseTimeToLiveRequest(ID=_lease_id(arguments[0]), keys=with_keys)
    try:
        async with session.client() as client:
            answer = await client.call(methods.LEASE_TIME_TO_LIVE, request, wait=True)
    except StatusError as error:
        raise CommandError(Exit.BAD_CONNECTION, status_text(error)) from error
    printer.show(_remaining(session, answer, with_keys=with_keys))


def _remaining(session: Session, answer: rpc_pb2.LeaseTimeToLiveResponse, *, with_keys: bool) -> Shown:
    line = f"lease {_hex(answer.ID)} granted with TTL({answer.grantedTTL}s), remaining({answer.TTL}s)".encode()
    if with_keys:
        line += b", attached keys([" + b" ".join(answer.keys) + b"])"
    if answer.TTL == -1 and answer.grantedTTL == 0:
        line = f"lease {_hex(answer.ID)} already expired".encode()
    message = message_json(answer)
    json: Json = {
        **message_json(answer.header),
        "id": answer.ID,
        "ttl": answer.TTL,
        "granted-ttl": answer.grantedTTL,
        "keys": message.get("keys"),
    }
    fields: list[Field] = [_id_field(session, answer.ID), ("TTL", answer.TTL), ("GrantedTTL", answer.grantedTTL)]
    fields += [("Key", quote(key)) for key in answer.keys]
    return Shown(answer, [line], fields, json, header_only=True)


async def _list(session: Session, _: list[str]) -> None:
    printer = session.open()
    try:
        async with session.client() as client:
            answer = await client.call(methods.LEASE_LEASES, rpc_pb2.LeaseLeasesRequest(), wait=True)
    except StatusError as error:
        raise CommandError(Exit.BAD_CONNECTION, status_text(error)) from error
    shown = Shown(
        answer,
        [f"found {len(answer.leases)} leases", *(_hex(lease.ID) for lease in answer.leases)],
        [_id_field(session, lease.ID) for lease in answer.leases],
        {**message_json(answer.header), "leases": [{"id": lease.ID} for lease in answer.leases]},
        header_only=True,
    )
    printer.show(shown)


async def _keep_alive(session: Session, arguments: list[str]) -> None:
    """Renew until the lease is gone, or once. Each answer is printed when it arrives."""
    if len(arguments) != 1:
        raise bad_arguments("lease keep-alive command needs lease ID as argument")
    lease_id = _lease_id(arguments[0])
    printer = session.open()
    async with session.client() as client:
        try:
            if session.values.bool("once"):
                printer.show(_renewed(session, await keep_alive_once(client, lease_id)))
                return
            async for answer in keep_alive(client, lease_id):
                printer.show(_renewed(session, answer))
                session.out.flush()
        except StatusError as error:
            raise CommandError(Exit.BAD_CONNECTION, status_text(error)) from error
    if printer.name == "simple":
        printer.line(f"lease {_hex(lease_id)} expired or revoked.")


def _renewed(session: Session, answer: rpc_pb2.LeaseKeepAliveResponse) -> Shown:
    return Shown(
        answer,
        [f"lease {_hex(answer.ID)} keepalived with TTL({answer.TTL})"],
        [_id_field(session, answer.ID), ("TTL", answer.TTL)],
        {**message_json(answer.header), "ID": answer.ID, "TTL": answer.TTL},
        header_only=True,
    )


def _id_field(session: Session, lease_id: int) -> Field:
    return "ID", _hex(lease_id) if session.values.bool("hex") else lease_id


def _hex(lease_id: int) -> str:
    return f"{lease_id:016x}"


def _lease_id(text: str) -> int:
    try:
        return parse_int(text, 16)
    except GoSyntaxError as error:
        raise bad_arguments(f"bad lease ID arg ({error}), expecting ID in Hex") from error


LEASE = Command(
    "lease",
    "Grant, renew, show and revoke leases",
    commands=(
        Command("grant", "Grant a lease", "<ttl>", run=_grant, examples=("tercetctl lease grant 60",)),
        Command(
            "revoke",
            "Revoke a lease, and delete the keys attached to it",
            "<leaseID>",
            run=_revoke,
            examples=("tercetctl lease revoke 32695410dcc0ca06",),
        ),
        Command(
            "timetolive",
            "Show the remaining time of a lease",
            "<leaseID> [options]",
            (Flag("keys", "bool", False, "also print the keys attached to it"),),
            _time_to_live,
            examples=("tercetctl lease timetolive 32695410dcc0ca06 --keys",),
        ),
        Command("list", "List all leases", run=_list),
        Command(
            "keep-alive",
            "Renew a lease until it is gone",
            "[options] <leaseID>",
            (Flag("once", "bool", False, "renew it once"),),
            _keep_alive,
            examples=("tercetctl lease keep-alive 32695410dcc0ca06", "tercetctl lease keep-alive --once 32695410dcc0ca06"),
        ),
    ),
)
