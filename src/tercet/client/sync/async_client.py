"""Generated from client/async_client.py by `python -m tercet.client.generate_sync`: do not edit."""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from tercet.client.async_client import AsyncClient
from tercet.client.cluster_channel import Balance
from tercet.client.events import OnEvent
from tercet.client.invoker import Seconds
from tercet.client.key_space import Text
from tercet.client.retry import Retry
from tercet.client.settings import options_of_environment, options_of_url
from tercet.client.sync.auth_calls import SyncAuthCalls
from tercet.client.sync.cluster_calls import SyncClusterCalls
from tercet.client.sync.maintenance_calls import SyncMaintenanceCalls
from tercet.client.sync.recipes.calls import SyncRecipeCalls
from tercet.client.tls import TLSFiles


class Client(SyncRecipeCalls):
    """A client of one cluster, for any number of threads. Use it with `with`, or call `close`.

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
        response_bytes_max: int = 2147483647,
        on_event: OnEvent | None = None,
    ) -> None:
        self._inner = AsyncClient(
            endpoints,
            balance=balance,
            discovery_srv=discovery_srv,
            discovery_srv_name=discovery_srv_name,
            sync_interval=sync_interval,
            tls=tls,
            user=user,
            password=password,
            token=token,
            timeout=timeout,
            dial_timeout=dial_timeout,
            retry=retry,
            namespace=namespace,
            request_bytes_max=request_bytes_max,
            response_bytes_max=response_bytes_max,
            on_event=on_event,
        )

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
        return self._call(self._inner.__repr__)

    def __enter__(self) -> Self:
        self._run(self._inner.__aenter__())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._run(self._inner.__aexit__(kind, error, trace))

    @property
    def auth(self) -> SyncAuthCalls:
        made = self._inner.auth
        return SyncAuthCalls._of(made, self._bound_thread)

    @property
    def cluster(self) -> SyncClusterCalls:
        made = self._inner.cluster
        return SyncClusterCalls._of(made, self._bound_thread)

    @property
    def maintenance(self) -> SyncMaintenanceCalls:
        made = self._inner.maintenance
        return SyncMaintenanceCalls._of(made, self._bound_thread)

    @property
    def endpoints(self) -> list[str]:
        """Those in use: as given, or those of the members since the last `sync_endpoints`."""
        return self._inner.endpoints

    def sync_endpoints(self, *, timeout: Seconds = ...) -> None:
        """Ask the cluster for its members, and use the client URLs of those that have started and are no learners.

        The endpoints given to the client are kept as a last resort.
        """
        self._run(self._inner.sync_endpoints(timeout=timeout))

    def namespace(self, prefix: Text) -> Client:
        """The same client with `prefix` before every key, inside the namespace that it has. Closing it does nothing."""
        made = self._call(self._inner.namespace, prefix)
        return Client._of(made, self._bound_thread)

    def close(self) -> None:
        """Close the connections. Calls in flight fail, watches end, leases are lost. A second call does nothing."""
        self._run(self._inner.close())
