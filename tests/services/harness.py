"""All services of one member that leads a cluster of its own, called in process.

    async with served() as member:
        await member.call("KV/Put", rpc_pb2.PutRequest(key=b"a"), rpc_pb2.PutResponse)

Raft, log and store are real; disk and clock are the test's. The member persists and applies at the end of each loop turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from google.protobuf.message import Message

from tercet.proto import rpc_pb2
from tercet.replica.membership import Member
from tercet.rpc import Handler, InProcessChannel, InProcessStream, Metadata, Peer, method_table
from tercet.services.auth import AuthService
from tercet.services.authorization import Authorization
from tercet.services.cluster import ClusterService
from tercet.services.headers import Headers
from tercet.services.health import HealthService
from tercet.services.interceptors import intercept
from tercet.services.kv import KvService
from tercet.services.leader_monitor import LeaderMonitor
from tercet.services.lease import LeaseService
from tercet.services.maintenance import MaintenanceService
from tercet.services.passwords import Passwords
from tercet.services.scheduler import Scheduler
from tercet.services.watch import WatchService
from tests.replica.lone_member import SELF, LoneMember

CLUSTER_ID = 0xC1
ELECTION_SECONDS = 0.05
PROGRESS_SECONDS = 0.1
TXN_OPS_MAX = 8
REQUEST_BYTES_MAX = 1 << 20
TEST_SECONDS = 60.0

Response = TypeVar("Response", bound=Message)


class Alone:
    """The peer transport of a member without peers."""

    def connected_seconds(self, member_id: int) -> float:
        return 0.0

    async def forward_promote(self, member_id: int, token: bytes) -> list[dict[str, Any]]:
        raise NotImplementedError


class NoLeader:
    """The leader that this member forwards lease requests to: it does not answer."""

    async def renew(self, leader: Member, lease_id: int) -> int | None:
        return None

    async def time_to_live(self, leader: Member, request: rpc_pb2.LeaseTimeToLiveRequest) -> bytes | None:
        return None


class ServedMember(LoneMember):
    """While `paused`, nothing that the services propose or read makes progress, until `resume`."""

    def __init__(self) -> None:
        self.paused = False
        self._loop = asyncio.get_running_loop()
        super().__init__(initial_members=[Member(SELF, ("http://localhost:2380",), "only", ("http://localhost:2379",))])
        self.lead()
        self.scheduler = Scheduler(self._loop)
        self.rewire(Authorization(self.replica), Peer("in process", None))

    def rewire(self, authorization: Authorization, peer: Peer, *, txn_ops_max: int | None = None) -> None:
        """Make the services, for a client that they see as `peer`."""
        headers = Headers(self.replica, cluster_id=CLUSTER_ID, member_id=SELF)
        kv = KvService(
            self.replica,
            headers,
            self.scheduler,
            authorization,
            txn_ops_max=txn_ops_max or TXN_OPS_MAX,
            request_bytes_max=REQUEST_BYTES_MAX,
        )
        cluster = ClusterService(self.replica, headers, authorization, Alone(), strict=True)
        maintenance = MaintenanceService(self.replica, headers, authorization, version="3.7.1", timeout_seconds=60)
        leases = self.leases = LeaseService(
            self.replica, headers, self.scheduler, authorization, NoLeader(), timeout_seconds=60
        )
        watch = self.watch = WatchService(
            self.replica,
            headers,
            authorization,
            request_bytes_max=REQUEST_BYTES_MAX,
            progress_seconds=PROGRESS_SECONDS,
            fail=self._failed,
        )
        monitor = LeaderMonitor(self.replica, election_seconds=ELECTION_SECONDS)
        passwords = Passwords(cost=4)
        self.close_passwords = passwords.close
        auth = self.auth_service = AuthService(self.replica, headers, authorization, passwords, self.scheduler)
        handlers: dict[str, Handler] = {}
        for service in (kv, auth, watch, leases, cluster, maintenance, HealthService()):
            handlers |= service.handlers()
        self.methods = method_table(intercept(handlers, self.replica, authorization, monitor))
        self.channel = InProcessChannel(self.methods, peer=peer)

    @staticmethod
    def _failed(error: BaseException) -> None:
        raise error

    async def call(
        self,
        method: str,
        request: Message | bytes,
        response: type[Response],
        *,
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> Response:
        """A unary call of `etcdserverpb.` + method. Raises RpcError."""
        body = request if isinstance(request, bytes) else request.SerializeToString()
        return response.FromString(await self.channel.unary(f"/etcdserverpb.{method}", body, timeout, metadata))

    async def open(self, method: str, request: Message, *, metadata: Metadata = ()) -> InProcessStream:
        """A server-streaming call of `etcdserverpb.` + method, its request sent."""
        stream = self.channel.stream(f"/etcdserverpb.{method}", metadata=metadata)
        await stream.send(request.SerializeToString())
        stream.half_close()
        return stream

    def schedule_flush(self) -> None:
        super().schedule_flush()
        if not self.paused:
            self._loop.call_soon(self.settle)

    def resume(self) -> None:
        self.paused = False
        self.settle()


@asynccontextmanager
async def served() -> AsyncIterator[ServedMember]:
    member = ServedMember()
    try:
        yield member
    finally:
        member.channel.close()
        member.close_passwords()


def run(test: Coroutine[Any, Any, None]) -> None:
    """Run a test; a hang fails within TEST_SECONDS."""

    async def bounded() -> None:
        await asyncio.wait_for(test, TEST_SECONDS)

    asyncio.run(bounded())
