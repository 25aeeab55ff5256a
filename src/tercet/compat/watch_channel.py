"""The connections of a compat client, as `tercet.client.WatchStream` uses them.

A watch outlives the connection that it was created on: its stream is opened again at the endpoint, or, where the client has
several and fails over, at the next. A user logs in again first, since a member that restarts has lost its simple tokens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from tercet.client import methods
from tercet.client.methods import AnswerT, EncodableT, Method
from tercet.compat.endpoint_channel import EndpointChannel
from tercet.compat.grpc_errors import RpcError, status_error
from tercet.errors import AUTH_NOT_ENABLED
from tercet.proto import rpc_pb2
from tercet.rpc import ClientStream, InProcessStream, Metadata

Login = tuple[str, str] | None
"""User and password."""


class WatchChannel:
    """channels: where a stream may be opened, the preferred one first.

    metadata: of the first stream; later ones have that of a new login, if there is a user.
    """

    def __init__(self, channels: Callable[[], Sequence[EndpointChannel]], metadata: Metadata | None, login: Login) -> None:
        self._channels = channels
        self._metadata: Metadata = tuple(metadata or ())
        self._login = login
        self._login_is_due = False
        self._used: EndpointChannel | None = None
        self._failed: EndpointChannel | None = None
        self._creating: set[asyncio.Future[None]] = set()

    def creation_failure(self) -> asyncio.Future[None]:
        """Gets the error of the next attempt to open a stream, if it fails; cancel it when the watch exists."""
        failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._creating.add(failure)
        failure.add_done_callback(self._decided)
        return failure

    def _decided(self, failure: asyncio.Future[None]) -> None:
        self._creating.discard(failure)
        if not failure.cancelled():
            failure.exception()  # the watch may exist by now: then nobody asks for it

    async def open_stream(self, method: Method[EncodableT, AnswerT], *, metadata: Metadata = ()) -> ClientStream:
        channel = self._used = self._next()
        try:
            if self._login is not None and self._login_is_due:
                await self._log_in(channel, *self._login)
            stream = await channel.open(method.path, None, (*self._metadata, *metadata))
        except RpcError as error:
            self._failed = channel
            failures, self._creating = self._creating, set()
            for failure in failures:
                if not failure.done():
                    failure.set_exception(error)
            raise status_error(error) from error
        self._login_is_due = True
        return stream

    async def leave_member(self, stream: ClientStream | InProcessStream) -> None:
        """Open the next stream elsewhere, if there is another endpoint."""
        self._failed = self._used

    async def call(self, method: Method[EncodableT, AnswerT], request: EncodableT) -> AnswerT:
        try:
            return method.decode(await self._next().unary(method.path, request.SerializeToString(), None, self._metadata))
        except RpcError as error:
            raise status_error(error) from error

    def _next(self) -> EndpointChannel:
        channels = self._channels()
        if self._failed not in channels:
            return channels[0]
        return channels[(channels.index(self._failed) + 1) % len(channels)]

    async def _log_in(self, channel: EndpointChannel, user: str, password: str) -> None:
        request = rpc_pb2.AuthenticateRequest(name=user, password=password)
        try:
            answer = await channel.unary(methods.AUTHENTICATE.path, request.SerializeToString(), None, ())
        except RpcError as error:
            if error.details() != AUTH_NOT_ENABLED.message:
                raise
            return
        self._metadata = (("token", methods.AUTHENTICATE.decode(answer).token),)
