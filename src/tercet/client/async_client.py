"""The client of a cluster for asyncio, with typed results.

async with tercet.AsyncClient("http://a:2379,http://b:2379") as client:
    await client.put("greeting", "hello")
    kv = await client.get("greeting")
    print(kv.text(), kv.mod_revision)
"""

from __future__ import annotations

import math
import os
import ssl
import warnings
from collections.abc import Sequence
from types import TracebackType
from typing import Any, NoReturn, Self

from tercet.client.auth_calls import AuthCalls
from tercet.client.cluster_calls import ClusterCalls
from tercet.client.cluster_channel import Balance, ClusterChannel
from tercet.client.connector import Limits
from tercet.client.errors import ConfigurationError
from tercet.client.events import OnEvent
from tercet.client.invoker import Invoker, Seconds
from tercet.client.key_space import KeySpace, Text
from tercet.client.long_streams import LongStreams
from tercet.client.maintenance_calls import MaintenanceCalls
from tercet.client.recipes.calls import RecipeCalls
from tercet.client.retry import Retry
from tercet.client.settings import check_options, check_seconds, options_of_environment, options_of_url, srv_domain
from tercet.client.tls import TLSFiles
from tercet.errors import ConfigError


class AsyncClient(RecipeCalls):
    """A client of one cluster, for one event loop. Use it with `async with`, or call `close`.

    endpoints: `host:port`, URLs or Unix sockets, a sequence or separated by commas. The first that answers is used until it
    fails, then the next.
    balance: "round-robin": each call uses the next endpoint, instead of one until it fails.
    discovery_srv: a domain whose SRV records name the endpoints, instead of `endpoints` (see srv.py); discovery_srv_name: the
    suffix of the service in these records.
    sync_interval: seconds between two requests for the cluster's members, whose URLs become the endpoints; None: never.
    tls: files or a context; None: the system's CA certificates, and only for `https://` endpoints.
    timeout: of each call, connecting and all retries included; None: no limit.
    dial_timeout: for one connection to one address, TLS included.
    retry: which failed calls are repeated (see Retry).
    namespace: put before every key, and taken off the keys of results.
    request_bytes_max, response_bytes_max: larger ones raise TooLarge.
    on_event: called with a name such as "call.failed" and a dictionary (see events.py).
    Raises ConfigurationError for endpoints, files or options that cannot be used. Connects with the first call.
    """

    _is_open = False  # also where the arguments do not fit

    def __init__(
        self,
        endpoints: str | Sequence[str] = "127.0.0.1:2379",
        *,
        balance: Balance = "preferred",
        discovery_srv: str = "",
        discovery_srv_name: str = "",
        sync_interval: float | None = None,
        tls: TLSFiles | ssl.SSLContext | None = None,
        user: str = "",
        password: str = "",
        token: str = "",
        timeout: float | None = 5.0,
        dial_timeout: float = 2.0,
        retry: Retry = Retry.SAFE,
        namespace: Text = b"",
        request_bytes_max: int = 2 << 20,
        response_bytes_max: int = 0x7FFFFFFF,
        on_event: OnEvent | None = None,
    ) -> None:
        check_options(tls=tls, user=user, password=password, token=token, retry=retry, on_event=on_event)
        check_seconds(timeout=timeout, dial_timeout=dial_timeout, sync_interval=sync_interval)
        limits = Limits(
            dial_timeout_seconds=dial_timeout, request_bytes_max=request_bytes_max, response_bytes_max=response_bytes_max
        )
        try:
            self._channel = ClusterChannel(
                _split(endpoints),
                tls=tls,
                user=user,
                password=password,
                token=token,
                timeout=math.inf if timeout is None else timeout,
                limits=limits,
                on_event=on_event,
                domain=srv_domain(discovery_srv, discovery_srv_name) if discovery_srv else None,
                sync_seconds=sync_interval,
                balance=balance,
            )
        except ConfigError as error:
            raise ConfigurationError(str(error)) from None
        self._streams = LongStreams(self._channel)
        self._is_view = False
        self._begin(Invoker(self._channel, retry), KeySpace().inside(namespace))
        self._is_open = True

    def _begin(self, invoker: Invoker, keys: KeySpace) -> None:
        self._invoker = invoker
        self._keys = keys

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """A client as a URL describes it: `etcd://user:password@a:2379,b:2379/namespace?timeout=5`.

        `etcds://` is the same with TLS, `etcd+unix:///path/to/socket` a Unix socket, `etcd+srv://example.com` a domain with
        SRV records. `options` are arguments of the constructor and take precedence. Raises ConfigurationError.
        """
        return cls(**{**options_of_url(url), **options})

    @classmethod
    def from_env(cls, **options: Any) -> Self:
        """A client as etcdctl's variables describe it: ETCDCTL_ENDPOINTS, ETCDCTL_USER (`name:password`), ETCDCTL_PASSWORD,
        ETCDCTL_CACERT, ETCDCTL_CERT and ETCDCTL_KEY. `options` are arguments of the constructor. Raises ConfigurationError.
        """
        return cls(**{**options_of_environment(os.environ), **options})

    def __repr__(self) -> str:
        inside = f", namespace {self._keys.namespace!r}" if self._keys.namespace else ""
        return f"<{type(self).__name__} of {', '.join(self.endpoints)}{inside}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} cannot be pickled or copied: make one in each process")

    def __del__(self) -> None:
        if self._is_open:
            text = f"unclosed client of {', '.join(self._channel.endpoints)}: use it in a `with` block, or close it"
            warnings.warn(text, ResourceWarning, stacklevel=2, source=self)

    @property
    def auth(self) -> AuthCalls:
        return AuthCalls(self._invoker, self._keys)

    @property
    def cluster(self) -> ClusterCalls:
        return ClusterCalls(self._invoker)

    @property
    def maintenance(self) -> MaintenanceCalls:
        return MaintenanceCalls(self._invoker)

    @property
    def endpoints(self) -> list[str]:
        """Those in use: as given, or those of the members since the last `sync_endpoints`."""
        return self._channel.endpoints

    async def sync_endpoints(self, *, timeout: Seconds = ...) -> None:
        """Ask the cluster for its members, and use the client URLs of those that have started and are no learners.

        The endpoints given to the client are kept as a last resort.
        """
        members = await self.cluster.list_members(timeout=timeout)
        urls = [url for member in members if member.name and not member.is_learner for url in member.client_urls]
        if urls:
            self._channel.use_endpoints(urls)

    @property
    def channel(self) -> ClusterChannel:
        """What the calls go through, for requests that have no method here: protobuf messages in and out."""
        return self._channel

    def namespace(self, prefix: Text) -> AsyncClient:
        """The same client with `prefix` before every key, inside the namespace that it has. Closing it does nothing."""
        view = object.__new__(type(self))
        view._channel = self._channel
        view._streams = self._streams
        view._is_view, view._is_open = True, False
        view._begin(self._invoker, self._keys.inside(prefix))
        return view

    async def close(self) -> None:
        """Close the connections. Calls in flight fail, watches end, leases are lost. A second call does nothing."""
        self._is_open = False
        if not self._is_view:
            await self._streams.close()
            await self._channel.close()


def _split(endpoints: str | Sequence[str]) -> list[str]:
    texts = endpoints.split(",") if isinstance(endpoints, str) else endpoints
    return [text.strip() for text in texts if text.strip()]
