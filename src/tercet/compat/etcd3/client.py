"""The client's classes, and `client()`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tercet.compat.etcd3.cluster_calls import Alarm, LeaseCalls, MaintenanceCalls, Status
from tercet.compat.etcd3.endpoint import Endpoint, EtcdTokenCallCredentials
from tercet.compat.etcd3.kv_calls import KVCalls, KVMetadata
from tercet.compat.etcd3.watch_calls import WatchCalls
from tercet.compat.transactions import Transactions

__all__ = [
    "Alarm",
    "Endpoint",
    "Etcd3Client",
    "EtcdTokenCallCredentials",
    "KVMetadata",
    "MultiEndpointEtcd3Client",
    "Status",
    "Transactions",
    "client",
]


class MultiEndpointEtcd3Client(KVCalls, WatchCalls, LeaseCalls, MaintenanceCalls):
    """A client of several endpoints. See Connection for failures."""

    def __init__(
        self,
        endpoints: Iterable[Endpoint] | None = None,
        timeout: float | None = None,
        user: str | None = None,
        password: str | None = None,
        failover: bool = False,
    ) -> None:
        super().__init__(endpoints, timeout, user, password, failover)
        self.transactions = Transactions()


class Etcd3Client(MultiEndpointEtcd3Client):
    """A client of one endpoint, over TLS as soon as `ca_cert` is given.

    ca_cert, cert_key, cert_cert: paths of PEM files. timeout: of each call, in seconds; None: none.
    user, password: both or none; the constructor calls the server for a token. grpc_options: see Endpoint.
    """

    def __init__(
        self,
        host: str = "localhost",
        port: int = 2379,
        ca_cert: Any = None,
        cert_key: Any = None,
        cert_cert: Any = None,
        timeout: float | None = None,
        user: str | None = None,
        password: str | None = None,
        grpc_options: Any = None,
    ) -> None:
        credentials = None
        if ca_cert is not None:
            if (cert_cert is None) != (cert_key is None):
                raise ValueError(
                    "to use a secure channel ca_cert is required by itself, or cert_cert and cert_key must both be specified."
                )
            credentials = self.get_secure_creds(ca_cert, cert_key, cert_cert)
        self.uses_secure_channel = credentials is not None
        endpoint = Endpoint(host, port, secure=self.uses_secure_channel, creds=credentials, opts=grpc_options)
        super().__init__(endpoints=[endpoint], timeout=timeout, user=user, password=password)


def client(
    host: str = "localhost",
    port: int = 2379,
    ca_cert: Any = None,
    cert_key: Any = None,
    cert_cert: Any = None,
    timeout: float | None = None,
    user: str | None = None,
    password: str | None = None,
    grpc_options: Any = None,
) -> Etcd3Client:
    """A client of one endpoint."""
    return Etcd3Client(host, port, ca_cert, cert_key, cert_cert, timeout, user, password, grpc_options)
