"""What doctor asks the members: status, health, alarms, certificate, metrics twice."""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tercet.cli.ctl.scrape import Scrape, scrape
from tercet.cli.ctl.status_text import status_text
from tercet.client import parse_endpoint
from tercet.client.connector import Unreachable
from tercet.errors import ConfigError, StatusError
from tercet.proto import rpc_pb2
from tercet.proto.alarm_names import alarm_name

if TYPE_CHECKING:
    from tercet.cli.ctl.session import Session


@dataclass
class MemberFacts:
    """One member as it answers at `endpoint`. status None: it did not answer, `error` says why.

    spares: its other addresses. failed: addresses tried before `endpoint`, each with the reason. read_seconds: of a
    linearizable read. metrics: two scrapes, empty if they could not be read, `metrics_error` says why.
    certificate_ends: of the certificate that it presents; None without TLS, or if the connection failed.
    """

    endpoint: str
    id: int = 0
    name: str = ""
    is_learner: bool = False
    status: rpc_pb2.StatusResponse | None = None
    error: str = ""
    read_seconds: float | None = None
    read_error: str = ""
    metrics: list[Scrape] = field(default_factory=list)
    metrics_error: str = ""
    certificate_ends: datetime | None = None
    spares: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"{self.name or f'{self.id:x}'} ({self.endpoint})" if self.id else self.endpoint


@dataclass
class Facts:
    """members: those of the member list, else the endpoints. window_seconds: between the two scrapes."""

    members: list[MemberFacts]
    alarms: list[tuple[int, str]] = field(default_factory=list)
    list_error: str = ""
    window_seconds: float = 0.0

    @property
    def voters(self) -> list[MemberFacts]:
        return [member for member in self.members if not member.is_learner]

    @property
    def answering(self) -> list[MemberFacts]:
        return [member for member in self.members if member.status is not None]


async def gather(session: Session, window_seconds: float) -> Facts:
    """Ask all members at the same time."""
    facts = Facts([], window_seconds=window_seconds)
    try:
        async with session.client() as client:
            listed = await client.cluster.member_list(rpc_pb2.MemberListRequest(linearizable=False))
            alarms = await client.maintenance.alarm(rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.GET))
        facts.alarms = [(one.memberID, alarm_name(one.alarm)) for one in alarms.alarms]
        unlisted = await _members_of_unlisted(session, [url for member in listed.members for url in member.clientURLs])
        for member in sorted(listed.members, key=lambda member: member.ID):
            urls = _ordered(list(member.clientURLs), session.endpoints())
            first, *spares = [*urls, *unlisted.get(member.ID, [])] if urls else [""]
            facts.members.append(MemberFacts(first, member.ID, member.name, member.isLearner, spares=spares))
    except StatusError as error:
        facts.list_error = _reason(error)
        facts.members = [MemberFacts(endpoint) for endpoint in session.endpoints()]
    await asyncio.gather(*(_ask(session, member, window_seconds) for member in facts.members))
    return facts


def _ordered(advertised: list[str], given: list[str]) -> list[str]:
    """The client URLs of a member; first those of --endpoints."""
    plain = {url.partition("://")[2]: url for url in advertised}
    preferred = [one for one in given if one.partition("://")[2] in plain or one in plain]
    return list(dict.fromkeys([*preferred, *advertised]))


async def _members_of_unlisted(session: Session, advertised: list[str]) -> dict[int, list[str]]:
    """Endpoints that no member advertises, by the ID of the member that answers there: a proxy's, or all if URLs are wrong."""
    known = {*advertised, *(url.partition("://")[2] for url in advertised)}
    found: dict[int, list[str]] = {}

    async def identify(endpoint: str) -> None:
        try:
            async with session.client([endpoint]) as client:
                status = await client.maintenance.status(rpc_pb2.StatusRequest())
        except StatusError:
            return
        found.setdefault(status.header.member_id, []).append(endpoint)

    await asyncio.gather(*(identify(endpoint) for endpoint in session.endpoints() if endpoint not in known))
    return found


async def _ask(session: Session, member: MemberFacts, window_seconds: float) -> None:
    if not member.endpoint:
        member.error = "not started: it advertises no client URL"
        return
    while not await _answers(session, member):
        if not member.spares:
            return
        member.failed[member.endpoint] = member.error
        member.endpoint = member.spares.pop(0)
    await asyncio.gather(_scrape_twice(session, member, window_seconds), _look_at_certificate(session, member))


async def _answers(session: Session, member: MemberFacts) -> bool:
    """Ask for the status and a linearizable read at `member.endpoint`."""
    try:
        async with session.client([member.endpoint]) as client:
            member.status = await client.maintenance.status(rpc_pb2.StatusRequest())
            began = time.perf_counter()
            try:
                await client.kv.range(rpc_pb2.RangeRequest(key=b"health"))
                member.read_seconds = time.perf_counter() - began
            except StatusError as error:
                member.read_error = status_text(error)
    except StatusError as error:
        member.error = _reason(error)
    return member.status is not None


async def _scrape_twice(session: Session, member: MemberFacts, window_seconds: float) -> None:
    try:
        tls = session.http_tls(member.endpoint)
        timeout = session.command_timeout
        member.metrics.append(await scrape(member.endpoint, tls, timeout=timeout))
        await asyncio.sleep(window_seconds)
        member.metrics.append(await scrape(member.endpoint, tls, timeout=timeout))
    except (OSError, ValueError, ConfigError) as error:
        member.metrics.clear()
        member.metrics_error = str(error)


async def _look_at_certificate(session: Session, member: MemberFacts) -> None:
    """When the certificate that the member presents ends."""
    try:
        tls = session.http_tls(member.endpoint)
        if tls is None:
            return
        endpoint = parse_endpoint(member.endpoint)
        async with asyncio.timeout(session.command_timeout):
            _, writer = await asyncio.open_connection(endpoint.host, endpoint.port, ssl=tls)
        try:
            found = writer.get_extra_info("ssl_object").getpeercert()  # empty if it was not verified
            if found:
                member.certificate_ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(found["notAfter"]), UTC)
        finally:
            writer.close()
    except (OSError, TimeoutError, ConfigError):
        return  # the status call has succeeded or said why not


def _reason(error: StatusError) -> str:
    """Why no endpoint could be connected to, or what the member answered."""
    return error.reason if isinstance(error, Unreachable) else status_text(error)
