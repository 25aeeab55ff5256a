"""How programs reach the members of a cluster, whether these run in this process or in others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from tercet.client import AsyncClient, Client
from tercet.client.tls import TLSFiles
from tercet.embed.environment import client_environment

if TYPE_CHECKING:
    from tercet.embed.certificates import Certificates


class HasEndpoints(Protocol):
    @property
    def endpoints(self) -> list[str]: ...


class ClusterClients:
    """A base of clusters. certificates: those of a cluster with TLS."""

    members: Sequence[HasEndpoints]
    certificates: Certificates | None

    @property
    def endpoints(self) -> list[str]:
        return [endpoint for member in self.members for endpoint in member.endpoints]

    @property
    def env(self) -> dict[str, str]:
        """Variables with which etcdctl and tercetctl find this cluster."""
        return client_environment(self.endpoints, self.tls)

    @property
    def tls(self) -> TLSFiles | None:
        """What clients need: the `tls` argument of Client and AsyncClient."""
        return self.certificates.tls if self.certificates is not None else None

    def client(self, **options: Any) -> Client:
        """A client of all members; the caller closes it. options: of Client."""
        return Client(**{"endpoints": self.endpoints, "tls": self.tls, **options})

    def async_client(self, **options: Any) -> AsyncClient:
        """A client of all members, not entered yet. options: of AsyncClient."""
        return AsyncClient(**{"endpoints": self.endpoints, "tls": self.tls, **options})
