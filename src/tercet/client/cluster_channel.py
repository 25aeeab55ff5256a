"""Calls to a cluster: endpoints, retries, tokens; protobuf messages in and out.

    await channel.kv.put(rpc_pb2.PutRequest(key=b"a", value=b"1"))

A failed read is retried on another member until its timeout; a write only if no member can have processed it. Every error is a
StatusError with etcd's code and text.
"""

from __future__ import annotations

import asyncio
import math
import random
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from types import TracebackType

from tercet.client import forks, methods
from tercet.client.connector import Connector, Limits, Unreachable
from tercet.client.methods import AnswerT, EncodableT, Method
from tercet.client.services import KV, Cluster, StreamingMaintenance
from tercet.client.tls import TLSFiles
from tercet.errors import Code, ConfigError, StatusError
from tercet.proto import rpc_pb2
from tercet.rpc import Channel, ClientStream, Metadata, RpcError

_RETRY_PAUSE_SECONDS = 0.025
_RETRY_PAUSE_SECONDS_MAX = 1.0
_STALE_TOKEN = frozenset({"etcdserver: invalid auth token", "etcdserver: revision of auth store is old"})
_AUTH_IS_OFF = "etcdserver: authentication is not enabled"

OnFailure = Callable[[str, int, StatusError], None]


class AuthenticationError(StatusError):
    """The user's name or password was refused."""


class ClusterChannel:
    """The calls of one client. Use it with `async with`, or call `close`.

    endpoints: `host:port` or URLs; the first that answers is used until it fails, then the next.
    tls: files or a context for endpoints with TLS; None: the system's CA certificates, and only for `https://` endpoints.
    timeout: default for calls, in seconds, dialling and retries included; math.inf: no limit.
    on_failure: called for each failed call with the endpoint, the number of retries and the error.
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
    ) -> None:
        self._limits = limits or Limits()
        self._connector = Connector(endpoints, tls, self._limits)
        self._credentials = (user, password)
        if not (token.isascii() and token.isprintable()):
            raise ConfigError("the token contains characters that are not printable ASCII")
        self._token = token
        self._authenticating = asyncio.Lock()
        forks.register(self)
        self._timeout = timeout
        self._on_failure = on_failure
        self.kv = KV(self)
        self.cluster = Cluster(self)
        self.maintenance = StreamingMaintenance(self)

    @property
    def endpoints(self) -> list[str]:
        """As they were given."""
        return [endpoint.text for endpoint in self._connector.endpoints]

    def after_fork(self) -> None:
        """In a child process: connect again with the next call. The token stays valid."""
        self._authenticating = asyncio.Lock()
        self._connector.after_fork()

    async def __aenter__(self) -> ClusterChannel:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._connector.close()

    async def call(
        self, method: Method[EncodableT, AnswerT], request: EncodableT, *, timeout: float | None = None, wait: bool = False
    ) -> AnswerT:
        """One unary call. Raises StatusError.

        timeout: seconds, None for the client's default. wait: no timeout once the request is sent.
        """
        deadline = asyncio.get_running_loop().time() + (self._timeout if timeout is None else timeout)
        body = request.SerializeToString()
        if len(body) > self._limits.request_bytes_max:
            text = f"trying to send message larger than max ({len(body)} vs. {self._limits.request_bytes_max})"
            raise StatusError(Code.RESOURCE_EXHAUSTED, text)

        async def attempt(channel: Channel) -> AnswerT:
            left = None if wait or deadline == math.inf else deadline - asyncio.get_running_loop().time()
            return method.decode(await channel.unary(method.path, body, timeout=left, metadata=self._metadata()))

        return await self._retry(attempt, deadline, is_idempotent=method.is_idempotent)

    async def range_stream(self, request: rpc_pb2.RangeRequest, *, timeout: float | None = None) -> rpc_pb2.RangeResponse:
        """The parts of a RangeStream, merged: the header and count of the last part, the keys of all."""
        deadline = asyncio.get_running_loop().time() + (self._timeout if timeout is None else timeout)

        async def attempt(channel: Channel) -> rpc_pb2.RangeResponse:
            whole = rpc_pb2.RangeResponse()
            left = deadline - asyncio.get_running_loop().time()
            stream = channel.stream(methods.RANGE_STREAM.path, timeout=left, metadata=self._metadata())
            await stream.send(request.SerializeToString())
            stream.half_close()
            async for message in stream:
                whole.MergeFrom(methods.RANGE_STREAM.decode(message).range_response)
            return whole

        return await self._retry(attempt, deadline, is_idempotent=True)

    async def stream(
        self, method: Method[EncodableT, AnswerT], request: EncodableT, *, timeout: float | None = None
    ) -> AsyncGenerator[AnswerT]:
        """A server-streaming call. It is retried like a unary one until the first answer has arrived. Raises StatusError.

        timeout: seconds for the whole stream; None: no limit, except the client's default for connecting.
        """
        deadline = asyncio.get_running_loop().time() + self._timeout

        async def begin(channel: Channel) -> tuple[ClientStream, bytes | None]:
            stream = channel.stream(method.path, timeout=timeout, metadata=self._metadata())
            await stream.send(request.SerializeToString())
            stream.half_close()
            return stream, await stream.receive()

        stream, message = await self._retry(begin, deadline, is_idempotent=method.is_idempotent)
        async with stream:
            while message is not None:
                yield method.decode(message)
                message = await stream.receive()

    async def open_stream(self, method: Method[EncodableT, AnswerT], *, metadata: Metadata = ()) -> ClientStream:
        """Start a bidirectional call on a connected, authenticated channel. It has no time limit. Raises StatusError.

        With a new token: a stream that replaces a broken one may come long after the old token has expired, and the server
        refuses what it carries without ending the call.
        """
        if self._credentials[0]:
            self._token = ""

        async def begin(channel: Channel) -> ClientStream:
            return channel.stream(method.path, metadata=[*self._metadata(), *metadata])

        deadline = asyncio.get_running_loop().time() + self._timeout
        return await self._retry(begin, deadline, is_idempotent=True)

    async def leave_member(self, stream: ClientStream) -> None:
        """Use another member from now on: that of `stream` has no leader, or does not answer. Calls in flight continue."""
        await self._connector.leave(stream)

    async def _retry(
        self, attempt: Callable[[Channel], Awaitable[AnswerT]], deadline: float, *, is_idempotent: bool
    ) -> AnswerT:
        """Call `attempt` until it succeeds, must not be retried, or the deadline has passed."""
        failures = 0
        renewed = False
        while True:
            endpoint = self._connector.endpoint
            try:
                channel = await self._connector.connected(deadline)
                endpoint = self._connector.endpoint
                if self._credentials[0] and not self._token:
                    await self._authenticate(channel, deadline)
                return await attempt(channel)
            except Unreachable as error:
                self._report(error.endpoint.text, failures, StatusError(error.code, error.reason))
                raise
            except RpcError as error:
                if error.message in _STALE_TOKEN and self._credentials[0] and not renewed:
                    renewed, self._token = True, ""
                    continue
                is_lost = error.code is Code.UNAVAILABLE
                if is_lost:
                    await self._connector.drop(channel)
                pause = min(_RETRY_PAUSE_SECONDS * 2**failures, _RETRY_PAUSE_SECONDS_MAX) * random.uniform(0.9, 1.1)
                in_time = asyncio.get_running_loop().time() + pause < deadline
                if not (is_lost and in_time and (is_idempotent or error.unprocessed)):
                    self._report(endpoint.text, failures, error)
                    raise
                failures += 1
                await asyncio.sleep(pause)

    async def _authenticate(self, channel: Channel, deadline: float) -> None:
        """Get a token for the user, unless auth is disabled. Raises AuthenticationError, RpcError."""
        async with self._authenticating:
            if self._token or not self._credentials[0]:
                return
            user, password = self._credentials
            request = rpc_pb2.AuthenticateRequest(name=user, password=password)
            left = None if deadline == math.inf else deadline - asyncio.get_running_loop().time()
            try:
                body = await channel.unary(methods.AUTHENTICATE.path, request.SerializeToString(), timeout=left)
            except RpcError as error:
                if error.message == _AUTH_IS_OFF:
                    self._report(self._connector.endpoint.text, 0, error)
                    self._credentials = ("", "")
                    return
                if error.code is Code.UNAVAILABLE:
                    raise
                raise AuthenticationError(error.code, error.message) from error
            self._token = methods.AUTHENTICATE.decode(body).token

    def _metadata(self) -> Metadata:
        return [("token", self._token)] if self._token else ()

    def _report(self, endpoint: str, failures: int, error: StatusError) -> None:
        if self._on_failure is not None:
            self._on_failure(endpoint, failures, error)
