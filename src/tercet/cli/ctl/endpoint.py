"""endpoint health, status and hashkv: query all endpoints in parallel, print the answers in the order of --endpoints."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tercet.cli.ctl.command import Command
from tercet.cli.ctl.errors import CommandError, Exit
from tercet.cli.ctl.flags import Flag
from tercet.cli.ctl.output import EndpointHash, EndpointHealth, EndpointStatus
from tercet.cli.ctl.status_text import status_text
from tercet.client import AuthenticationError, check_health
from tercet.errors import StatusError
from tercet.gotext.duration import format_duration
from tercet.proto import rpc_pb2

if TYPE_CHECKING:
    from tercet.cli.ctl.session import Session


async def chosen_endpoints(session: Session) -> list[str]:
    """The endpoints of --endpoints; with --cluster the client URLs of all members.

    As in etcdctl, the limits of messages are not those of the list, and TLS files that cannot be used end the command with 1.
    """
    if not session.values.bool("cluster"):
        return session.endpoints()
    try:
        async with session.client(limits_messages=False) as client:
            members = await client.cluster.member_list(rpc_pb2.MemberListRequest(linearizable=True))
    except CommandError as error:
        raise CommandError(Exit.ERROR, str(error)) from error
    except StatusError as error:
        text = f"failed to fetch endpoints from etcd cluster member list: {status_text(error)}"
        raise CommandError(Exit.ERROR, text) from error
    return [url for member in members.members for url in member.clientURLs]


async def _health(session: Session, _: list[str]) -> None:
    printer = session.open()
    results = await asyncio.gather(*(_health_of(session, endpoint) for endpoint in await chosen_endpoints(session)))
    printer.endpoint_health(results)
    if not all(result.health for result in results):
        raise CommandError(Exit.ERROR, "unhealthy cluster")


async def _health_of(session: Session, endpoint: str) -> EndpointHealth:
    async with session.client([endpoint]) as client:
        found = await check_health(client)
    error = status_text(found.failure) if found.failure else found.error
    return EndpointHealth(endpoint, found.is_healthy, format_duration(found.took_nanoseconds), error)


async def _status(session: Session, _: list[str]) -> None:
    printer = session.open()
    endpoints = await chosen_endpoints(session)
    answers = await asyncio.gather(*(_status_of(session, endpoint) for endpoint in endpoints))
    printer.endpoint_status([answer for answer in answers if answer is not None])
    if None in answers:
        raise CommandError(Exit.ERROR)


async def _status_of(session: Session, endpoint: str) -> EndpointStatus | None:
    try:
        async with session.client([endpoint]) as client:
            return EndpointStatus(endpoint, await client.maintenance.status(rpc_pb2.StatusRequest()))
    except AuthenticationError:
        raise  # every endpoint would reject this user
    except StatusError as error:
        session.warn(f"Failed to get the status of endpoint {endpoint} ({status_text(error)})")
        return None


async def _hashkv(session: Session, _: list[str]) -> None:
    printer = session.open()
    endpoints = await chosen_endpoints(session)
    answers = await asyncio.gather(*(_hash_of(session, endpoint) for endpoint in endpoints))
    printer.endpoint_hash([answer for answer in answers if isinstance(answer, EndpointHash)])
    failures = [answer for answer in answers if isinstance(answer, StatusError)]
    if failures:
        raise CommandError(Exit.ERROR, status_text(failures[-1]))


async def _hash_of(session: Session, endpoint: str) -> EndpointHash | StatusError:
    request = rpc_pb2.HashKVRequest(revision=session.values.int("rev"))
    try:
        async with session.client([endpoint]) as client:
            return EndpointHash(endpoint, await client.maintenance.hash_kv(request))
    except AuthenticationError:
        raise  # every endpoint would reject this user
    except StatusError as error:
        session.warn(f"Failed to get the hash of endpoint {endpoint} ({status_text(error)})")
        return error


CLUSTER_FLAG = Flag("cluster", "bool", False, "ask all members, not only --endpoints")

ENDPOINT = Command(
    "endpoint",
    "Show the health, status and hash of members",
    flags=(CLUSTER_FLAG,),
    commands=(
        Command(
            "health",
            "Check that each endpoint can commit",
            run=_health,
            examples=("tercetctl endpoint health", "tercetctl endpoint health --cluster -w table"),
        ),
        Command(
            "status",
            "Show version, size, leader and log position of each endpoint",
            run=_status,
            description=(
                "The fields of the simple format are: endpoint, ID, version, storage version, db size, in use,\n"
                "percentage not in use, quota, is leader, is learner, raft term, raft index, raft applied index, errors,\n"
                "downgrade target version, downgrade enabled."
            ),
            examples=("tercetctl endpoint status --cluster -w table",),
        ),
        Command(
            "hashkv",
            "Hash the keys and their history at each endpoint",
            flags=(Flag("rev", "int", 0, "hash up to this revision; 0: the latest"),),
            run=_hashkv,
            examples=("tercetctl endpoint hashkv --cluster --rev 1000",),
        ),
    ),
)
