"""Calls to one endpoint, each made once: what grpcio's `aio` channel is to its stubs.

It connects at the first call, and again at the first call after a loss. Nothing is repeated: the clients that stand on it leave
that to their callers, who may have made a write twice otherwise. A failure to connect is UNAVAILABLE.

    channel = EndpointChannel("localhost:2379")
    range_ = channel.unary_unary("/etcdserverpb.KV/Range", rpc_pb2.RangeResponse)
    response = await range_(rpc_pb2.RangeRequest(key=b"a"), timeout=5)
"""

from __future__ import annotations

import asyncio
import ssl
import warnings
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from typing import Any

from tercet.client import Limits, parse_endpoint
from tercet.compat.grpc_errors import rpc_error
from tercet.errors import Code, StatusError
from tercet.rpc import Channel, ChannelOptions, ClientStream
from tercet.rpc import Metadata as StreamMetadata

Metadata = StreamMetadata | None
_CONNECT_SECONDS_MAX = 20.0


class EndpointChannel:
    """One connection of one event loop."""

    def __init__(self, target: str, *, tls: ssl.SSLContext | None = None, options: Iterable[tuple[str, Any]] = ()) -> None:
        """target: host:port. options: grpcio's channel arguments, see `channel_options`."""
        self._endpoint = parse_endpoint(target)
        self._tls = tls
        self._options, names = channel_options(options)
        self._authority = names.get("authority")
        self._server_name = names.get("server_hostname")
        self._channel: Channel | None = None
        self._dialing: asyncio.Lock | None = None

    def unary_unary(self, path: str, kind: Any) -> Callable[..., Any]:
        """A callable (request, timeout, metadata) that returns the answer. Raises RpcError."""

        async def call(request: Any, timeout: float | None = None, metadata: Metadata = None, **_: object) -> Any:
            return kind.FromString(await self.unary(path, request.SerializeToString(), timeout, metadata))

        return call

    def unary_stream(self, path: str, kind: Any) -> Callable[..., AsyncIterator[Any]]:
        """A callable (request, timeout, metadata) that returns an iterator of answers. Raises RpcError."""

        def call(request: Any, timeout: float | None = None, metadata: Metadata = None, **_: object) -> AsyncIterator[Any]:
            return self._exchange(path, kind, [request], timeout, metadata)

        return call

    def stream_stream(self, path: str, kind: Any) -> Callable[..., AsyncIterator[Any]]:
        """A callable (requests, timeout, metadata) that returns an iterator of answers; requests may be asynchronous."""

        def call(requests: Any, timeout: float | None = None, metadata: Metadata = None, **_: object) -> AsyncIterator[Any]:
            return self._exchange(path, kind, requests, timeout, metadata)

        return call

    async def unary(self, path: str, request: bytes, timeout: float | None, metadata: Metadata) -> bytes:
        """Encoded messages. Raises RpcError."""
        started = asyncio.get_running_loop().time()
        channel = await self._connected(timeout)
        if timeout is not None:
            timeout = max(timeout - (asyncio.get_running_loop().time() - started), 0.001)
        try:
            return await channel.unary(path, request, timeout, tuple(metadata or ()))
        except StatusError as error:
            raise rpc_error(error.code, error.message) from error

    async def open(self, path: str, timeout: float | None, metadata: Metadata) -> ClientStream:
        """Start a stream of encoded messages, whose methods raise StatusError. Raises RpcError if there is no connection."""
        return (await self._connected(timeout)).stream(path, timeout, tuple(metadata or ()))

    async def close(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    async def _exchange(
        self, path: str, kind: Any, requests: Any, timeout: float | None, metadata: Metadata
    ) -> AsyncIterator[Any]:
        stream = await self.open(path, timeout, metadata)
        sender = asyncio.ensure_future(_send_all(stream, requests))
        try:
            async with stream:
                async for message in stream:
                    yield kind.FromString(message)
        except StatusError as error:
            raise rpc_error(error.code, error.message) from error
        finally:
            sender.cancel()

    async def _connected(self, timeout: float | None) -> Channel:
        if self._channel is not None and self._channel.is_usable:
            return self._channel
        if self._dialing is None:
            self._dialing = asyncio.Lock()
        try:
            async with asyncio.timeout(timeout), self._dialing:
                if self._channel is None or not self._channel.is_usable:
                    await self.close()
                    self._channel = await self._dial()
                return self._channel
        except TimeoutError as error:
            raise rpc_error(Code.DEADLINE_EXCEEDED, "Deadline Exceeded") from error
        except StatusError as error:
            raise rpc_error(error.code, error.message) from error

    async def _dial(self) -> Channel:
        end = self._endpoint
        path = end.unix_path or None
        channel = Channel(
            end.host,
            end.port,
            ssl=self._tls,
            unix_path=path,
            options=self._options,
            authority=self._authority,
            server_hostname=self._server_name,
        )
        await channel.connect()
        return channel


async def _send_all(stream: ClientStream, requests: Iterable[Any] | AsyncIterable[Any]) -> None:
    try:
        if isinstance(requests, AsyncIterable):
            async for request in requests:
                await stream.send(request.SerializeToString())
        else:
            for request in requests:
                await stream.send(request.SerializeToString())
        stream.half_close()
    except StatusError:
        pass  # the receiver gets the error of the stream


def channel_options(given: Iterable[tuple[str, Any]]) -> tuple[ChannelOptions, dict[str, str]]:
    """grpcio's channel arguments as ours, and names for the server. Those without a meaning here are warned of."""
    limits = Limits()
    numbers: dict[str, float] = {
        "grpc.max_receive_message_length": limits.response_bytes_max,
        "grpc.keepalive_time_ms": limits.keepalive_seconds * 1000,
        "grpc.keepalive_timeout_ms": limits.keepalive_timeout_seconds * 1000,
    }
    names: dict[str, str] = {}
    for name, value in given:
        if name in numbers:
            numbers[name] = value
        elif name == "grpc.ssl_target_name_override":
            names["server_hostname"] = str(value)
        elif name == "grpc.default_authority":
            names["authority"] = str(value)
        else:
            warnings.warn(f"the channel option {name} has no effect", stacklevel=4)
    bytes_max = int(numbers["grpc.max_receive_message_length"])
    options = ChannelOptions(
        connect_timeout_seconds=_CONNECT_SECONDS_MAX,
        max_message_bytes=bytes_max if bytes_max >= 0 else limits.response_bytes_max,
        keepalive_interval_seconds=numbers["grpc.keepalive_time_ms"] / 1000,
        keepalive_timeout_seconds=numbers["grpc.keepalive_timeout_ms"] / 1000,
    )
    return options, names
