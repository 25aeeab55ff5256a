"""What all calls of a client need: endpoints, stubs, the token, and the mapping of errors to exceptions."""

from __future__ import annotations

import functools
import random
import ssl
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, NoReturn, TypeVar, cast

from tercet.compat import stubs
from tercet.compat.etcd3 import etcdrpc, exceptions
from tercet.compat.etcd3.endpoint import Endpoint, EtcdTokenCallCredentials, secure_credentials
from tercet.compat.etcd3.watch import Watcher
from tercet.compat.grpc_errors import code_name
from tercet.compat.watch_channel import Login

Method = TypeVar("Method", bound=Callable[..., Any])
Self = TypeVar("Self", bound="Connection")

_EXCEPTIONS: dict[str, type[exceptions.Etcd3Exception]] = {
    "INTERNAL": exceptions.InternalServerError,
    "UNAVAILABLE": exceptions.ConnectionFailedError,
    "DEADLINE_EXCEEDED": exceptions.ConnectionTimeoutError,
    "FAILED_PRECONDITION": exceptions.PreconditionFailedError,
}
_ENDPOINT_HAS_FAILED = frozenset({"INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED"})


def translated(call: Method) -> Method:
    """For methods of Connection: an RpcError becomes the client's exception."""

    @functools.wraps(call)
    def handler(self: Connection, *args: Any, **kwargs: Any) -> Any:
        try:
            return call(self, *args, **kwargs)
        except Exception as error:
            self._manage_grpc_errors(error)

    return cast(Method, handler)


def translated_iterator(call: Method) -> Method:
    """For methods of Connection that are generators."""

    @functools.wraps(call)
    def handler(self: Connection, *args: Any, **kwargs: Any) -> Iterator[Any]:
        try:
            yield from call(self, *args, **kwargs)
        except Exception as error:
            self._manage_grpc_errors(error)

    return cast(Method, handler)


class _Stub:
    """A stub on the channel in use, made at its first use. Programs may replace it, as attributes of 0.12 could be."""

    def __init__(self, kind: Callable[[Any], Any]) -> None:
        self._kind = kind

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, client: Any, owner: type | None = None) -> Any:
        if client is None:
            return self
        if self._name not in client._stubs:
            channel = client.channel  # may clear the stubs
            client._stubs[self._name] = self._kind(channel)
        return client._stubs[self._name]

    def __set__(self, client: Any, stub: Any) -> None:
        client._stubs[self._name] = stub


class Connection:
    """A failed call is never repeated. With `failover`, the next call goes to an endpoint that has not failed recently.

    Watches survive failed calls, lost connections and, with `failover`, lost endpoints.
    """

    def __init__(
        self,
        endpoints: Iterable[Endpoint] | None = None,
        timeout: float | None = None,
        user: str | None = None,
        password: str | None = None,
        failover: bool = False,
    ) -> None:
        """timeout: of each call, in seconds; None: none. With a user, the constructor calls the server for a token."""
        self.metadata: tuple[tuple[str, str], ...] | None = None
        self.failover = failover
        self._stubs: dict[str, Any] = {}
        self.endpoints = {endpoint.netloc: endpoint for endpoint in endpoints or ()}
        self._label = random.choice(list(self.endpoints))
        self.timeout = timeout
        self.call_credentials: EtcdTokenCallCredentials | None = None
        self._watcher: Any = None
        self._login: Login = None
        if user is not None and password is not None:
            self._login = user, password
            request = etcdrpc.AuthenticateRequest(name=user, password=password)
            token = self.authstub.Authenticate(request, self.timeout).token
            self.metadata = (("token", token),)
            self.call_credentials = EtcdTokenCallCredentials(token)
        elif user is not None or password is not None:
            raise Exception("if using authentication credentials both user and password must be specified.")

    authstub = _Stub(stubs.AuthStub)
    kvstub = _Stub(stubs.KVStub)
    clusterstub = _Stub(stubs.ClusterStub)
    leasestub = _Stub(stubs.LeaseStub)
    maintenancestub = _Stub(stubs.MaintenanceStub)

    @property
    def watcher(self) -> Any:
        """All watches of the client on one stream."""
        if self._watcher is None:
            self._watcher = self._new_watcher(self.channel)
        return self._watcher

    @watcher.setter
    def watcher(self, value: Any) -> None:
        self._watcher = value

    def get_watcher(self) -> Watcher:
        """A watcher with a stream of its own."""
        return self._new_watcher(self.channel)

    @property
    def endpoint_in_use(self) -> Endpoint:
        """The endpoint of the last call, or of the next."""
        return self.endpoints[self._label]

    @property
    def channel(self) -> Any:
        """The connection to the endpoint in use. Raises NoServerAvailableError; ValueError without failover."""
        try:
            return self.endpoint_in_use.use()
        except ValueError:
            if not self.failover:
                raise
        for label, endpoint in self.endpoints.items():
            if not endpoint.is_failed():
                self._stubs.clear()
                self._label = label
                return endpoint.use()
        raise exceptions.NoServerAvailableError("No endpoint available and not failed")

    def close(self) -> None:
        """Close the watches and the connections."""
        self._stubs.clear()
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.close()
        for endpoint in self.endpoints.values():
            endpoint.close()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @staticmethod
    def get_secure_creds(ca_cert: Any, cert_key: Any = None, cert_cert: Any = None) -> ssl.SSLContext:
        """TLS credentials from paths of PEM files, for `Endpoint`."""
        return secure_credentials(ca_cert, cert_key, cert_cert)

    def _invoke(self, call: Callable[..., Any], request: Any) -> Any:
        return call(request, self.timeout, credentials=self.call_credentials, metadata=self.metadata)

    def _new_watcher(self, channel: Any) -> Watcher:
        return Watcher(
            channel, self.timeout, self.call_credentials, self.metadata, login=self._login, channels=self._watched_channels
        )

    def _watched_channels(self) -> list[Any]:
        """The channel in use first."""
        others = [endpoint.channel for label, endpoint in self.endpoints.items() if label != self._label]
        return [self.endpoint_in_use.channel, *(others if self.failover else ())]

    def _manage_grpc_errors(self, error: Exception) -> NoReturn:
        """Raise the client's exception for an RpcError, and any other error as it is."""
        code = code_name(error)
        if code in _ENDPOINT_HAS_FAILED:
            self.endpoint_in_use.fail()
            self._stubs.clear()
        if code not in _EXCEPTIONS:
            raise error
        raise _EXCEPTIONS[code]() from error
