"""What all calls of a client need: the connection, which the first call makes, and the mapping of errors to exceptions."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, TypeVar, cast

from tercet.compat import stubs
from tercet.compat.aetcd import exceptions
from tercet.compat.aetcd.watcher import Watcher
from tercet.compat.endpoint_channel import EndpointChannel
from tercet.compat.grpc_errors import code_name
from tercet.compat.transactions import Transactions
from tercet.proto import rpc_pb2

Method = TypeVar("Method", bound=Callable[..., Any])
Self = TypeVar("Self", bound="Connection")


def connected(call: Method) -> Method:
    """For methods of Connection, coroutines or generators: connect first, and raise the client's exceptions."""
    if inspect.isasyncgenfunction(call):

        @functools.wraps(call)
        async def generate(self: Connection, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            try:
                await self._connect()
                async for each in call(self, *args, **kwargs):
                    yield each
            except Exception as error:
                raise_translated(error)

        return cast(Method, generate)

    @functools.wraps(call)
    async def handle(self: Connection, *args: Any, **kwargs: Any) -> Any:
        try:
            await self._connect()
            return await call(self, *args, **kwargs)
        except Exception as error:
            raise_translated(error)

    return cast(Method, handle)


def raise_translated(error: Exception) -> None:
    """Raise the client's exception for an RpcError, and any other error as it is."""
    if code_name(error) is None:
        raise error
    exceptions._handle_exception(error)


class Connection:
    """One endpoint, without TLS as in the original. No call is repeated or renews a token; watches resume."""

    def __init__(
        self,
        host: str = "localhost",
        port: int = 2379,
        username: str | None = None,
        password: str | None = None,
        timeout: float | None = None,
        options: dict[str, Any] | None = None,
        connect_wait_timeout: float = 3,
    ) -> None:
        """timeout: of each call, in seconds; None: none. options: channel arguments of grpcio.

        connect_wait_timeout: how long a call waits while another one gets a token, in seconds.
        """
        if bool(username) != bool(password):
            raise Exception("if using authentication credentials both username and password must be provided")
        self._target = f"{host}:{port}"
        self._credentials = username, password
        self._timeout = timeout
        self._options = options or {}
        self._connect_wait_timeout = connect_wait_timeout
        self._connecting: asyncio.Lock | None = None
        self.transactions = Transactions()
        self._forget()

    def _forget(self) -> None:
        self.channel: EndpointChannel | None = None
        self.metadata: Any = None
        self.auth_stub: Any = None
        self.kvstub: Any = None
        self.clusterstub: Any = None
        self.leasestub: Any = None
        self.maintenancestub: Any = None
        self._watcher: Any = None

    async def connect(self) -> None:
        """Prepare for calls; with a user, get a token. Calls do this by themselves."""
        try:
            await self._connect()
        except Exception as error:
            raise_translated(error)

    async def close(self) -> None:
        """End the watches and close the connection; a later call connects again."""
        watcher, channel = self._watcher, self.channel
        self._forget()
        if watcher is not None:
            await watcher.shutdown()
        if channel is not None:
            await channel.close()

    async def __aenter__(self: Self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _connect(self) -> None:
        if self._watcher is not None:
            return
        if self._connecting is None:
            self._connecting = asyncio.Lock()
        await asyncio.wait_for(self._connecting.acquire(), self._connect_wait_timeout)
        try:
            if self._watcher is None:
                await self._open()
        finally:
            self._connecting.release()

    async def _open(self) -> None:
        channel = EndpointChannel(self._target, options=self._options.items())
        user, password = self._credentials
        login = (user, password) if user and password else None
        metadata: Any = None
        if login is not None:
            self.auth_stub = stubs.AuthStub(channel)
            request = rpc_pb2.AuthenticateRequest(name=login[0], password=login[1])
            metadata = (("token", (await self.auth_stub.Authenticate(request, timeout=self._timeout)).token),)
        self.channel = channel
        self.metadata = metadata
        self.kvstub = stubs.KVStub(channel)
        self.clusterstub = stubs.ClusterStub(channel)
        self.leasestub = stubs.LeaseStub(channel)
        self.maintenancestub = stubs.MaintenanceStub(channel)
        self._watcher = Watcher(channel, timeout=self._timeout, metadata=metadata, login=login)

    def _invoke(self, call: Callable[..., Any], request: Any) -> Any:
        return call(request, timeout=self._timeout, metadata=self.metadata)
