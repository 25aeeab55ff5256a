"""member add, remove, update, list and promote."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tercet.cli.ctl.command import Command
from tercet.cli.ctl.errors import CommandError, Exit, bad_arguments
from tercet.cli.ctl.flags import Flag
from tercet.cli.ctl.output import Shown
from tercet.client import methods
from tercet.gotext.strconv import GoSyntaxError, parse_int, quote
from tercet.gotext.urls import parse_urls
from tercet.proto import rpc_pb2

if TYPE_CHECKING:
    from tercet.cli.ctl.session import Session


async def _add(session: Session, arguments: list[str]) -> None:
    if not arguments:
        raise bad_arguments("member name not provided")
    if len(arguments) > 1:
        urls = [word for word in arguments if word.lower().startswith("http")]
        raise bad_arguments("too many arguments" + "".join(f", did you mean --peer-urls={url}" for url in urls))
    urls = _peer_urls(session)
    is_learner = session.values.bool("learner")
    printer = session.open()
    _check_urls(session.values.string("peer-urls"))
    async with session.client() as client:
        request = rpc_pb2.MemberAddRequest(peerURLs=urls, isLearner=is_learner)
        answer = await client.call(methods.MEMBER_ADD, request)
    added = "added as learner to" if answer.member.isLearner else "added to"
    line = f"Member {answer.member.ID:16x} {added} cluster {answer.header.cluster_id:16x}"
    printer.members(Shown(answer, [line], fields=None))
    if printer.name == "simple":
        for setting in _settings(answer, arguments[0], session.values.string("peer-urls")):
            printer.line(setting)


def _settings(answer: rpc_pb2.MemberAddResponse, name: str, peer_urls: str) -> list[str]:
    """The environment variables that the new member needs."""
    members = [
        f"{name if member.ID == answer.member.ID else member.name}={url}"
        for member in answer.members
        for url in member.peerURLs
    ]
    return [
        "",
        f"ETCD_NAME={quote(name.encode('utf-8', 'surrogateescape'))}",
        f"ETCD_INITIAL_CLUSTER={quote(','.join(members).encode('utf-8', 'surrogateescape'))}",
        f"ETCD_INITIAL_ADVERTISE_PEER_URLS={quote(peer_urls.encode())}",
        'ETCD_INITIAL_CLUSTER_STATE="existing"',
    ]


async def _remove(session: Session, arguments: list[str]) -> None:
    member_id = _member_id(arguments)
    printer = session.open()
    async with session.client() as client:
        answer = await client.call(methods.MEMBER_REMOVE, rpc_pb2.MemberRemoveRequest(ID=member_id))
    line = f"Member {member_id:16x} removed from cluster {answer.header.cluster_id:16x}"
    printer.members(Shown(answer, [line], fields=None))


async def _update(session: Session, arguments: list[str]) -> None:
    member_id = _member_id(arguments)
    urls = _peer_urls(session)
    printer = session.open()
    _check_urls(session.values.string("peer-urls"))
    async with session.client() as client:
        answer = await client.call(methods.MEMBER_UPDATE, rpc_pb2.MemberUpdateRequest(ID=member_id, peerURLs=urls))
    line = f"Member {member_id:16x} updated in cluster {answer.header.cluster_id:16x}"
    printer.members(Shown(answer, [line], fields=None))


async def _promote(session: Session, arguments: list[str]) -> None:
    member_id = _member_id(arguments)
    printer = session.open()
    async with session.client() as client:
        answer = await client.call(methods.MEMBER_PROMOTE, rpc_pb2.MemberPromoteRequest(ID=member_id))
    line = f"Member {member_id:16x} promoted in cluster {answer.header.cluster_id:16x}"
    printer.members(Shown(answer, [line], fields=None))


async def _list(session: Session, _: list[str]) -> None:
    consistency = session.values.string("consistency")
    if consistency not in ("l", "s"):
        # etcdctl names the default of `get --consistency` here, whatever was given.
        raise CommandError(Exit.BAD_FEATURE, 'unknown consistency flag "l"')
    printer = session.open()
    async with session.client() as client:
        printer.member_list(await client.cluster.member_list(rpc_pb2.MemberListRequest(linearizable=consistency == "l")))


def _peer_urls(session: Session) -> list[str]:
    """The URLs of --peer-urls. Raises CommandError if there are none."""
    text = session.values.string("peer-urls")
    if not text:
        raise bad_arguments("member peer urls not provided")
    return text.split(",")


def _check_urls(text: str) -> None:
    """Raises CommandError, exit 1: Go's client refuses such URLs without asking the server."""
    try:
        parse_urls(text)
    except ValueError as error:
        raise CommandError(Exit.ERROR, str(error)) from error


def _member_id(arguments: list[str]) -> int:
    if len(arguments) != 1:
        raise bad_arguments("member ID is not provided")
    try:
        return parse_int(arguments[0], 16, signed=False)
    except GoSyntaxError as error:
        raise bad_arguments(f"bad member ID arg ({error}), expecting ID in Hex") from error


def _peer_urls_flag(whose: str) -> Flag:
    return Flag("peer-urls", "string", "", f"peer URLs of the {whose} member, separated by commas")


_CONSISTENCY = Flag("consistency", "string", "l", "l: linearizable; s: as the member knows them", choices=("l", "s"))

MEMBER = Command(
    "member",
    "List and change the members of the cluster",
    commands=(
        Command(
            "add",
            "Add a member",
            "<memberName> [options]",
            (_peer_urls_flag("new"), Flag("learner", "bool", False, "add it as a learner, which does not vote")),
            _add,
            description="Prints the environment variables with which to start the new member.",
            examples=("tercetctl member add n4 --peer-urls=https://10.0.0.4:2380 --learner",),
        ),
        Command("remove", "Remove a member", "<memberID>", run=_remove),
        Command(
            "update",
            "Change the peer URLs of a member",
            "<memberID> [options]",
            (_peer_urls_flag("updated"),),
            _update,
            examples=("tercetctl member update 8e9e05c52164694d --peer-urls=https://10.0.0.5:2380",),
        ),
        Command(
            "list",
            "List the members",
            flags=(_CONSISTENCY,),
            run=_list,
            description=(
                "The fields of the simple format are: ID, status, name, peer addresses, client addresses, is learner."
            ),
            examples=("tercetctl member list -w table",),
        ),
        Command(
            "promote",
            "Make a learner a voter",
            "<memberID>",
            run=_promote,
            description="The learner must have caught up with the leader.",
        ),
    ),
)
