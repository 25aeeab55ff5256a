"""Calls to a cluster: endpoints, retries, tokens; protobuf messages in and out.

    await channel.kv.put(rpc_pb2.PutRequest(key=b"a", value=b"1"))

A failed read is retried on another member until its timeout; a write only if no member can have processed it. Every error is a
StatusError with etcd's code and text.
"""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Literal, get_args

from tercet.client import forks, methods
from tercet.client.connector import Connector, Limits, Unreachable
from tercet.client.events import Events, OnEvent
from tercet.client.login import Login
from tercet.client.member_sync import MemberSync
from tercet.client.methods import AnswerT, EncodableT, Method
from tercet.client.retry import Attempts, is_learner
from tercet.client.round_robin import RoundRobin
from tercet.client.services import KV, Cluster, StreamingMaintenance
from tercet.client.tls import TLSFiles
from tercet.errors import Code, ConfigError, StatusError
from tercet.proto import rpc_pb2
from tercet.rpc import Metadata, RpcError

if TYPE_CHECKING:
    from tercet.client.connections import Connection, Stream
    from tercet.client.srv import SrvDomain

Balance = Literal["preferred", "round-robin"]
OnFailure = Callable[[str, int, StatusError], None]


class ClusterChannel:
    """The calls of one client. Use it with `async with`, or call `close`.

    endpoints: `host:port` or URLs; the first that answers is used until it fails, then the next.
    tls: files or a context for endpoints with TLS; None: the system's CA certificates, and only for `https://` endpoints.
    timeout: default for calls, in seconds, dialling and retries included; math.inf: no limit.
    balance: "preferred": one endpoint until it fails; "round-robin": each call takes the next one.
    domain: where SRV records name the endpoints, instead of `endpoints`. sync_seconds: how often to ask for the members.
    on_failure: called for each failed call with the endpoint, the number of retries and the error. on_event: see events.py.
    Raises ConfigError for endpoints or files that cannot be used.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        tls: TLSFiles | ssl.SSLContext | None = None,
        user: str = "",
        password: str = "",
        token: str = "",
        timeout: float = 5.0,
        limits: Limits | None = None,
        on_failure: OnFailure | None = None,
        on_event: OnEvent | None = None,
        domain: SrvDomain | None = None,
        sync_seconds: float | None = None,
        balance: Balance = "preferred",
    ) -> None:
        self._limits = limits or Limits()
        self._events = Events(on_event)
        self._sync = None if sync_seconds is None else MemberSync(self, sync_seconds)
        on_connected = (lambda: None) if self._sync is None else self._sync.start
        if balance not in get_args(Balance):
            raise ConfigError(f"balance is one of {', '.join(get_args(Balance))}, not {balance}")
        kind: type[Connector | RoundRobin] = Connector if balance == "preferred" else RoundRobin
        self._connector = kind(endpoints, tls, self._limits, self._events, domain=domain, on_connected=on_connected)
        self._login = Login(user, password, token)
        forks.register(self)
        self._timeout = timeout
        self._on_failure = on_failure
        self.kv = KV(self)
        self.cluster = Cluster(self)
        self.maintenance = StreamingMaintenance(self)

    @property
    def endpoints(self) -> list[str]:
        return [endpoint.text for endpoint in self._connector.endpoints]

    @property
    def awaits_login(self) -> bool:
        """Whether the client has a user and has no token for it yet."""
        return self._login.is_due

    def use_endpoints(self, endpoints: Sequence[str]) -> None:
        """Use these from now on, and those given at first as a last resort. Connections stay open. Raises ConfigError."""
        self._connector.replace(endpoints)

    def after_fork(self) -> None:
        """In a child process: connect again with the next call. The token stays valid."""
        self._login.after_fork()
        self._connector.after_fork()

    async def __aenter__(self) -> ClusterChannel:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        if self._sync is not None:
            await self._sync.close()
        await self._connector.close()

    async def call(
        self,
        method: Method[EncodableT, AnswerT],
        request: EncodableT,
        *,
        timeout: float | None = None,
        wait: bool = False,
        attempts: Attempts | None = None,
    ) -> AnswerT:
        """One unary call. Raises StatusError.

        timeout: seconds, None for the client's default. wait: no timeout once the request is sent. attempts: when to repeat
        it; by default as the method allows.
        """
        if timeout is None:
            timeout = self._timeout
        began = asyncio.get_running_loop().time()
        body = request.SerializeToString()
        if len(body) > self._limits.request_bytes_max:
            text = f"trying to send message larger than max ({len(body)} vs. {self._limits.request_bytes_max})"
            raise StatusError(Code.RESOURCE_EXHAUSTED, text)
        if attempts is None:
            attempts = Attempts(is_repeatable=method.is_idempotent)
        channel = self._connector.usable
        if channel is not None and not self._events.has_hook and not self._login.is_due:
            # Most calls are answered at once: three coroutines less, and a timeout that the connection has encoded before.
            token, endpoint = self._login.token, self._connector.endpoint.text
            limit = None if wait or timeout == math.inf else timeout
            self._connector.call_begins()
            try:
                return method.decode(
                    await channel.unary(method.path, body, limit, self._login.metadata(), attempts.is_repeatable)
                )
            except RpcError as error:
                failed = error
            await self._recover(failed, channel, endpoint, token, began, began + timeout, attempts)

        async def attempt(channel: Connection) -> AnswerT:
            left = None if wait or timeout == math.inf else began + timeout - asyncio.get_running_loop().time()
            reply = await channel.unary(method.path, body, left, self._login.metadata(), attempts.is_repeatable)
            return method.decode(reply)

        return await self._retry(method.path, attempt, began + timeout, attempts)

    async def range_stream(self, request: rpc_pb2.RangeRequest, *, timeout: float | None = None) -> rpc_pb2.RangeResponse:
        """The parts of a RangeStream, merged: the header and count of the last part, the keys of all."""
        deadline = asyncio.get_running_loop().time() + (self._timeout if timeout is None else timeout)

        async def attempt(channel: Connection) -> rpc_pb2.RangeResponse:
            whole = rpc_pb2.RangeResponse()
            left = deadline - asyncio.get_running_loop().time()
            stream = channel.stream(methods.RANGE_STREAM.path, timeout=left, metadata=self._login.metadata())
            await stream.send(request.SerializeToString())
            stream.half_close()
            async for message in stream:
                whole.MergeFrom(methods.RANGE_STREAM.decode(message).range_response)
            return whole

        return await self._retry(methods.RANGE_STREAM.path, attempt, deadline, Attempts(is_repeatable=True))

    async def stream(
        self, method: Method[EncodableT, AnswerT], request: EncodableT, *, timeout: float | None = None
    ) -> AsyncGenerator[AnswerT]:
        """A server-streaming call. It is retried like a unary one until the first answer has arrived. Raises StatusError.

        timeout: seconds for the whole stream; None: no limit, except the client's default for connecting.
        """
        deadline = asyncio.get_running_loop().time() + self._timeout

        async def begin(channel: Connection) -> tuple[Stream, bytes | None]:
            stream = channel.stream(method.path, timeout=timeout, metadata=self._login.metadata())
            await stream.send(request.SerializeToString())
            stream.half_close()
            return stream, await stream.receive()

        stream, message = await self._retry(method.path, begin, deadline, Attempts(is_repeatable=method.is_idempotent))
        async with stream:
            while message is not None:
                yield method.decode(message)
                message = await stream.receive()

    async def open_stream(self, method: Method[EncodableT, AnswerT], *, metadata: Metadata = ()) -> Stream:
        """Start a bidirectional call on a connected, authenticated channel. It has no time limit. Raises StatusError.

        With a new token: a stream that replaces a broken one may come long after the old token has expired, and the server
        refuses what it carries without ending the call.
        """
        self._login.forget(self._login.token)

        async def begin(channel: Connection) -> Stream:
            self._connector.stream_begins(channel)
            return channel.stream(method.path, metadata=[*self._login.metadata(), *metadata])

        deadline = asyncio.get_running_loop().time() + self._timeout
        return await self._retry(method.path, begin, deadline, Attempts(is_repeatable=True))

    async def leave_member(self, stream: Stream) -> None:
        """Use another member from now on: that of `stream` has no leader, or does not answer. Calls in flight continue."""
        await self._connector.leave(stream)

    async def _retry(
        self, method: str, attempt: Callable[[Connection], Awaitable[AnswerT]], deadline: float, attempts: Attempts
    ) -> AnswerT:
        """Call `attempt` until it succeeds, must not be repeated, or the deadline has passed."""
        connector, login = self._connector, self._login
        while True:
            endpoint = connector.endpoint
            token, began = login.token, 0.0
            try:
                channel = await connector.connected(deadline)
                endpoint = connector.endpoint
                if login.is_due:
                    running = login.run(channel, deadline)
                    off = await self._events.around("login", running, user=login.user, endpoint=endpoint.text)
                    if off is not None:
                        self._report(endpoint.text, attempts.failures, off)
                token = login.token
                began = asyncio.get_running_loop().time()
                connector.call_begins()
                return await self._events.around(
                    "call", attempt(channel), method=method, endpoint=endpoint.text, attempt=attempts.failures
                )
            except Unreachable as error:
                self._report(error.endpoint.text, attempts.failures, StatusError(error.code, error.reason))
                raise
            except RpcError as error:
                failed = error
            await self._recover(failed, channel, endpoint.text, token, began, deadline, attempts)

    async def _recover(
        self,
        error: RpcError,
        channel: Connection,
        endpoint: str,
        token: str,
        began: float,
        deadline: float,
        attempts: Attempts,
    ) -> None:
        """Prepare the next attempt after one that began at `began`, and pause. Raises the error if there must be none."""
        connector = self._connector
        if not attempts.has_renewed_token and self._login.refused(error, token):
            attempts.has_renewed_token = True
            return
        is_silent = error.code is Code.DEADLINE_EXCEEDED and channel.last_heard <= began  # it may be paused
        if error.code is Code.UNAVAILABLE or is_silent or is_learner(error):
            await connector.drop(channel)
        is_overtaken = self._login.is_overtaken(error)
        if is_overtaken:
            self._login.forget(token)
        pause = attempts.pause_after(error, len(connector.endpoints), is_overtaken=is_overtaken)
        if pause is None or asyncio.get_running_loop().time() + pause >= deadline:
            self._report(endpoint, attempts.failures, error)
            raise error
        await asyncio.sleep(pause)

    def _report(self, endpoint: str, failures: int, error: StatusError) -> None:
        if self._on_failure is not None:
            self._on_failure(endpoint, failures, error)
