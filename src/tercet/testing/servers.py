"""What the fixtures give out: a server in this process, in a process of its own, or elsewhere, behind one interface."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

from tercet.client import AsyncClient, Client
from tercet.embed.environment import client_environment
from tercet.embed.member import StorageKind
from tercet.embed.settings import Setting
from tercet.errors import TercetError
from tercet.owned_directory import OwnedDirectory
from tercet.testing.cluster import Cluster
from tercet.testing.process_cluster import ROOT, ProcessCluster, skip


@dataclass(frozen=True, slots=True)
class Settings:
    """The plugin's options. mode: inprocess, process or external. program: the server to run, "" for tercet."""

    mode: str
    endpoints: list[str]
    program: str
    storage: str
    keep_data: bool

    @contextmanager
    def open_server(self) -> Iterator[TestServer]:
        """The server of this mode."""
        if self.mode == "external":
            with self.open_external() as server:
                yield server
        elif self.mode == "process":
            with self.open_process() as server:
                yield server
        else:
            with self.open_cluster(1, {}) as cluster:
                yield TestServer(cluster.endpoints, cluster)

    @contextmanager
    def open_process(self) -> Iterator[TestServer]:
        with ProcessCluster(1, {}, self.program, keep_data=self.keep_data) as cluster:
            yield TestServer(cluster.endpoints, cluster)

    @contextmanager
    def open_external(self) -> Iterator[TestServer]:
        yield TestServer(self.endpoints, None)

    @contextmanager
    def open_cluster(
        self, size: int, config: Mapping[str, Setting], *, tls: bool = False
    ) -> Iterator[Cluster | ProcessCluster]:
        """Several members of this mode; there is none of an external server."""
        if self.mode == "external":
            skip("a cluster cannot be made of an external server")
        if self.mode == "process":
            with ProcessCluster(size, config, self.program, tls=tls, keep_data=self.keep_data) as processes:
                yield processes
            return
        owned = OwnedDirectory("test") if self.storage == "disk" else None
        try:
            storage, directory = cast(StorageKind, self.storage), None if owned is None else owned.path
            with Cluster(size, storage=storage, directory=directory, tls=tls, config=config) as cluster:
                yield cluster
        finally:
            if owned is not None:
                owned.close()

    def enable_auth(self, cluster: Cluster | ProcessCluster) -> None:
        """Enable authentication: user root, password root."""
        with cluster.client() as client:
            client.auth.add_user(ROOT, ROOT)
            client.auth.grant_role(ROOT, ROOT)
            client.auth.enable()


class TestServer:
    """A server that tests share. cluster: its members; None for an external one."""

    __test__ = False  # for pytest, which collects classes of this name

    def __init__(self, endpoints: list[str], cluster: Cluster | ProcessCluster | None) -> None:
        self.endpoints = endpoints
        self.cluster = cluster

    @property
    def endpoint(self) -> str:
        return self.endpoints[0]

    @property
    def env(self) -> dict[str, str]:
        """Variables with which etcdctl and tercetctl find this server."""
        return client_environment(self.endpoints)

    def client(self, namespace: bytes = b"") -> Client:
        """A client; of an external server it sees only the namespace."""
        return Client(self.endpoints, namespace=namespace if self.cluster is None else b"")

    def async_client(self, namespace: bytes = b"") -> AsyncClient:
        return AsyncClient(self.endpoints, namespace=namespace if self.cluster is None else b"")

    def clean(self, client: Client) -> None:
        """Forget what a test has stored: everything, or of an external server what is in the client's namespace."""
        if self.cluster is not None:
            self.reset()
        else:
            client.delete_prefix("")

    def clean_namespace(self, namespace: bytes) -> None:
        with self.client(namespace) as client:
            self.clean(client)

    def reset(self) -> None:
        """Forget everything that clients have stored. Refused for an external server."""
        if self.cluster is None:
            raise TercetError("an external server is not reset: use tercet_namespace")
        self.cluster.reset()
