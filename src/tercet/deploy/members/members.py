"""Client calls to the members, through the SSH connections of their hosts, with the operator's certificate.

    members = Members(cluster, hosts)
    health = await members.health()             # all members in parallel, like etcdctl's `endpoint health`
    await members.move_leader("kube-node1", to)

The SSH tunnel ends on the host and connects to the member's advertised address, so that the calls see what other clients see:
the member's certificate must be valid for that address. Only SSH must be reachable from here.

A member that does not answer is a result with an `error`, not an exception.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tercet.client import methods
from tercet.client.health import check_health
from tercet.client.methods import AnswerT, EncodableT, Method
from tercet.client.services import KV, Maintenance
from tercet.client.services import Cluster as Membership
from tercet.client.tls import TLSFiles
from tercet.deploy.cluster.client_environment import operator_files
from tercet.deploy.cluster.cluster import Cluster, HostSpec, host_port
from tercet.deploy.members.left_behind import LeftBehind
from tercet.deploy.ssh.host_error import HostError
from tercet.deploy.ssh.remote import Host
from tercet.errors import Code, ConfigError, StatusError
from tercet.pki import days_left
from tercet.proto import rpc_pb2
from tercet.rpc import Channel, ChannelOptions, RpcError

CALL_SECONDS = 3.0
_DIAL_SECONDS = 3.0
_ERRORS_AFTER_THE_READ = ("Active Alarm", "Unable to fetch the alarm list")  # of check_health


@dataclass(frozen=True)
class MemberHealth:
    """Like a line of etcdctl's `endpoint health`. took_seconds: of the linearizable read.

    commits: whether the linearizable read succeeded, whatever alarms are raised; None if unknown: the member could not be asked
    (SSH, TLS, timeout) and may serve other clients.
    """

    name: str
    endpoint: str
    is_healthy: bool
    took_seconds: float
    error: str = ""
    commits: bool | None = None

    def __post_init__(self) -> None:
        if self.is_healthy:
            object.__setattr__(self, "commits", True)


@dataclass(frozen=True)
class MemberAnswer:
    """A member's status; `error` if it did not answer. leader: id of its leader, 0 for none.

    downgrade: version that may start on this member's data, "" unless a downgrade is enabled and the data is migrated.
    """

    name: str
    error: str = ""
    member_id: int = 0
    leader: int = 0
    version: str = ""
    db_size: int = 0
    is_learner: bool = False
    raft_term: int = 0
    raft_index: int = 0
    db_size_in_use: int = 0
    quota: int = 0
    downgrade: str = ""

    @property
    def is_leader(self) -> bool:
        return bool(self.member_id) and self.member_id == self.leader

    @property
    def has_no_leader(self) -> bool:
        """Whether the member answered that it has no leader, so that it cannot commit."""
        return bool(self.member_id) and not self.leader


@dataclass(frozen=True)
class MemberStatus:
    """One member, as seen by systemd on its host and by itself. alarms: raised for this member, such as NOSPACE.

    quota: bytes that db_size may reach before writes are refused; 0 if unknown. db_size_in_use: after a defragmentation.

    unit: systemd's state, "active/running"; "" if the host was not reached. error: why fields are missing. member_id: 0 if the
    member did not answer; the fields after it are then empty. certificate_days: read on the host, until the first of the
    member's certificates expires; None if there is none. left_behind: by which recovery or restore; such a member is not asked.
    """

    name: str
    address: str
    unit: str
    error: str
    member_id: int
    version: str
    db_size: int
    is_leader: bool
    is_learner: bool
    raft_term: int
    raft_index: int
    certificate_days: float | None
    db_size_in_use: int = 0
    quota: int = 0
    alarms: tuple[str, ...] = ()
    left_behind: str = ""


def operator_certificate_days(cluster: Cluster) -> float | None:
    """Days until the operator's certificate expires; None if there is none, or it is unreadable."""
    if not cluster.tls.enabled:
        return None
    try:
        return days_left(operator_files(cluster).cert.read_bytes())
    except (OSError, ConfigError):
        return None


class Members:
    """The members on these hosts. Close it, or use it with `async with`; the hosts stay connected.

    The constructor raises ConfigError for an unreadable record of members left behind.
    """

    def __init__(self, cluster: Cluster, hosts: Mapping[str, Host | HostError]) -> None:
        self.cluster = cluster
        self.left_behind = LeftBehind.read(cluster)
        self._context: ssl.SSLContext | None = None
        self._context_of: list[tuple[int, int]] = []
        self._members = {
            spec.name: Member(self, spec, host)
            for spec in cluster.hosts
            if (host := hosts.get(spec.name)) is not None and not isinstance(host, HostError)
        }
        self._unreachable = {name: host for name, host in hosts.items() if isinstance(host, HostError)}

    async def __aenter__(self) -> Members:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()

    async def close(self) -> None:
        for member in self._members.values():
            await member.close()

    def context(self) -> ssl.SSLContext | None:
        """Of the present files: before the first apply they do not exist, and a step may replace them. Raises ConfigError."""
        if not self.cluster.tls.enabled:
            return None
        files = operator_files(self.cluster)
        versions = [_version_of(path) for path in files]
        if self._context is None or versions != self._context_of:
            tls = TLSFiles(cacert=str(files.cacert), cert=str(files.cert), key=str(files.key))
            self._context, self._context_of = tls.context(), versions
        return self._context

    def member(self, name: str) -> Member:
        """Raises the HostError of an unreachable host, or of one whose member was left behind by a recovery."""
        if name in self._unreachable:
            raise self._unreachable[name]
        if (refused := self.left_behind.refusal(name, "ask")) is not None:
            raise refused
        return self._members[name]

    async def health(self) -> list[MemberHealth]:
        """The health of every member, in the order of the file."""
        return list(await asyncio.gather(*(self.health_of(spec) for spec in self.cluster.hosts)))

    async def health_of(self, spec: HostSpec) -> MemberHealth:
        endpoint = self.cluster.client_url(spec)
        try:
            member = self.member(spec.name)
            health = await check_health(member, timeout=CALL_SECONDS)
        except (HostError, ConfigError) as error:
            return MemberHealth(spec.name, endpoint, False, 0.0, _text(error))
        took = health.took_nanoseconds / 1e9
        commits: bool | None = health.error.startswith(_ERRORS_AFTER_THE_READ)
        if not (health.is_healthy or commits):
            commits = False if member.is_refused or (await self.answer_of(spec.name)).has_no_leader else None
        return MemberHealth(spec.name, endpoint, health.is_healthy, took, health.error, commits)

    async def answers(self) -> dict[str, MemberAnswer]:
        """The status of every member, by name."""
        answers = await asyncio.gather(*(self.answer_of(spec.name) for spec in self.cluster.hosts))
        return {answer.name: answer for answer in answers}

    async def answer_of(self, name: str) -> MemberAnswer:
        try:
            status = await self.member(name).maintenance.status(rpc_pb2.StatusRequest(), timeout=CALL_SECONDS)
        except (HostError, StatusError, ConfigError) as error:
            return MemberAnswer(name, _text(error))
        target = status.downgradeInfo.targetVersion
        return MemberAnswer(
            name,
            member_id=status.header.member_id,
            leader=status.leader,
            version=status.version,
            db_size=status.dbSize,
            is_learner=status.isLearner,
            raft_term=status.raftTerm,
            raft_index=status.raftIndex,
            db_size_in_use=status.dbSizeInUse,
            quota=status.dbSizeQuota,
            downgrade=target if status.downgradeInfo.enabled and target == status.storageVersion else "",
        )

    async def listed(self) -> list[rpc_pb2.Member] | None:
        """The cluster's member list, from the first member in the file's order that answers; None if none does."""
        for spec in self.cluster.hosts:
            with contextlib.suppress(HostError, StatusError, ConfigError):
                request = rpc_pb2.MemberListRequest()  # serializable: also answered without a majority
                return list((await self.member(spec.name).cluster.member_list(request, timeout=CALL_SECONDS)).members)
        return None

    async def alarms(self) -> list[rpc_pb2.AlarmMember]:
        """The alarms of the cluster, from the first member that answers; empty if none does."""
        for spec in self.cluster.hosts:
            with contextlib.suppress(HostError, StatusError, ConfigError):
                request = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.GET)
                return list((await self.member(spec.name).maintenance.alarm(request, timeout=CALL_SECONDS)).alarms)
        return []

    async def move_leader(self, leader: str, to: MemberAnswer) -> None:
        """Raises StatusError."""
        request = rpc_pb2.MoveLeaderRequest(targetID=to.member_id)
        await self.member(leader).maintenance.move_leader(request, timeout=10.0)


class Member:
    """Services of one member, over one connection that is reopened when it is lost."""

    def __init__(self, members: Members, spec: HostSpec, host: Host) -> None:
        self._members = members
        self._spec = spec
        self._host = host
        self._port = 0
        self._channel: Channel | None = None
        self._dialing = asyncio.Lock()
        self.is_refused = False
        """Whether the host refused the last connection attempt: no process listens, which is certain."""
        self.kv = KV(self)
        self.cluster = Membership(self)
        self.maintenance = Maintenance(self)

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()
            self._channel = None

    async def call(
        self, method: Method[EncodableT, AnswerT], request: EncodableT, *, timeout: float | None = None, wait: bool = False
    ) -> AnswerT:
        """One attempt, without retries. Raises StatusError, or HostError if SSH fails."""
        patience = None if wait else timeout or CALL_SECONDS
        channel = await self._connected()
        return method.decode(await channel.unary(method.path, request.SerializeToString(), timeout=patience))

    async def snapshot(self, request: rpc_pb2.SnapshotRequest) -> AsyncGenerator[rpc_pb2.SnapshotResponse]:
        """The member's database in pieces, without a time limit. Raises StatusError."""
        channel = await self._connected()
        try:
            async with channel.stream(methods.SNAPSHOT.path) as stream:
                await stream.send(request.SerializeToString())
                stream.half_close()
                while (message := await stream.receive()) is not None:
                    yield methods.SNAPSHOT.decode(message)
        except RpcError as error:
            raise StatusError(error.code, str(error)) from error

    async def range_stream(self, request: rpc_pb2.RangeRequest, *, timeout: float | None = None) -> rpc_pb2.RangeResponse:
        """As one message: the ranges read here are small."""
        return await self.kv.range(request, timeout=timeout)

    async def _connected(self) -> Channel:
        async with self._dialing:
            if self._channel is None or not self._channel.is_usable:
                await self.close()
                self._channel = await self._dial()
            return self._channel

    async def _dial(self) -> Channel:
        address, port = self._spec.address, self._members.cluster.listen.client_port
        if not self._port:
            self._port = await self._host.forward(address, port)
        options = ChannelOptions(connect_timeout_seconds=_DIAL_SECONDS)
        context = self._members.context()
        channel = Channel("127.0.0.1", self._port, ssl=context, server_hostname=address, options=options)
        began = time.monotonic()
        self.is_refused = False
        try:
            await channel.connect()
        except RpcError as error:
            await channel.close()
            text = _reason(error.reason or error, host_port(address, port), time.monotonic() - began)
            if not text:
                self.is_refused = await self._host.refuses(address, port)
                text = f"connection to {host_port(address, port)} {'refused' if self.is_refused else 'closed'}"
            raise StatusError(Code.UNAVAILABLE, text) from error
        return channel


def _version_of(path: Path) -> tuple[int, int]:
    """Changes when the file is replaced."""
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0
    return status.st_ino, status.st_mtime_ns


def _reason(error: BaseException, place: str, waited: float) -> str:
    """The text of a failed connection; "" for a tunnel closed at once: by the host, by the SSH server, or with the latter's
    connection."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return f"TLS handshake failed: {error.reason.lower().replace('_', ' ')}"
    if waited >= _DIAL_SECONDS * 0.9:
        return f"no answer from {place} within {_DIAL_SECONDS:g} s"
    return ""


def _text(error: HostError | StatusError | ConfigError) -> str:
    """The error without the name of its host, which the caller shows."""
    return error.without_host if isinstance(error, HostError) else str(error)
