"""What the fixtures give out: a server in this process, in a process of its own, or elsewhere, behind one interface."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from tercet.client import AsyncClient, Client
from tercet.client.maintenance_calls import AlarmName
from tercet.embed.addresses import Port
from tercet.embed.member import StorageKind
from tercet.embed.process import ServerProcess
from tercet.embed.settings import Setting
from tercet.embed.undo import Undo
from tercet.errors import TercetError
from tercet.testing.cluster import Cluster

_ROOT: Final = ("root", "root")


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
    def open_cluster(self, size: int, config: Mapping[str, Setting]) -> Iterator[Cluster | ProcessCluster]:
        """Several members of this mode; there is none of an external server."""
        if self.mode == "external":
            _skip("a cluster cannot be made of an external server")
        if self.mode == "process":
            with ProcessCluster(size, config, self.program, keep_data=self.keep_data) as processes:
                yield processes
            return
        directory = Path(tempfile.mkdtemp(prefix="tercet-test-")) if self.storage == "disk" else None
        try:
            with Cluster(size, storage=cast(StorageKind, self.storage), directory=directory, config=config) as cluster:
                yield cluster
        finally:
            if directory is not None:
                shutil.rmtree(directory, ignore_errors=True)

    def enable_auth(self, cluster: Cluster | ProcessCluster) -> None:
        """Enable authentication: user root, password root."""
        name, password = _ROOT
        with Client(cluster.endpoints) as client:
            client.auth.add_user(name, password)
            client.auth.grant_role(name, "root")
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
        return {"ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": ",".join(self.endpoints)}

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


class ProcessCluster:
    """Members as processes: of tercet, or of a real etcd. Of the faults it has those that a process can have.

    program: the server's path, "" for tercet.
    """

    def __init__(self, size: int, config: Mapping[str, Setting], program: str = "", *, keep_data: bool = False) -> None:
        ports = {f"m{number}": Port() for number in range(size)}
        self._ports = list(ports.values())
        more: dict[str, Any] = {"program": [program]} if program else {}
        self.members = [
            ServerProcess(name=name, members=ports, config={"unsafe_no_fsync": True, **config}, keep_data=keep_data, **more)
            for name in ports
        ]

    @property
    def endpoints(self) -> list[str]:
        return [endpoint for member in self.members for endpoint in member.endpoints]

    @property
    def endpoint(self) -> str:
        return self.endpoints[0]

    @property
    def env(self) -> dict[str, str]:
        return {"ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": ",".join(self.endpoints)}

    @property
    def running(self) -> list[ServerProcess]:
        return [member for member in self.members if member.is_running]

    def __getitem__(self, number: int) -> ServerProcess:
        return self.members[number]

    def __getattr__(self, name: str) -> Any:
        if hasattr(Cluster, name):
            _skip(f"{name} needs servers in this process: --tercet-mode=inprocess")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def leader(self) -> ServerProcess:
        """The member that leads, as the first one says that answers. Raises the client's error if none does."""
        with Client(self.endpoints) as client:
            leader_id = client.maintenance.status().leader
            name = next(member.name for member in client.cluster.list_members() if member.id == leader_id)
        return next(member for member in self.members if member.name == name)

    def lose_quorum(self) -> Undo:
        """Kill as many members as leave no quorum. Taken back, they start again."""
        gone = self.members[(len(self.members) - 1) // 2 :]
        for member in gone:
            member.kill()

        def bring_back() -> None:
            for member in gone:
                member.start_soon()
            for member in gone:
                member.wait_ready()

        return Undo(bring_back)

    def reset(self) -> None:
        """Delete keys, leases, users, roles and alarms. The revision goes on; watches see the deletions."""
        with Client(self.endpoints, user="", password="") as client:
            for alarm in client.maintenance.list_alarms():
                client.maintenance.disarm_alarm(cast(AlarmName, alarm.name), alarm.member_id)
            client.delete_prefix("")
            for lease_id in client.list_leases():
                client.revoke_lease(lease_id)
            for user in client.auth.list_users():
                client.auth.delete_user(user)
            for role in client.auth.list_roles():
                client.auth.delete_role(role)

    def close(self) -> None:
        for member in self.members:
            member.close()
        for port in self._ports:
            port.close()

    def __enter__(self) -> ProcessCluster:
        try:
            for member in self.members:
                member.start_soon()
            for member in self.members:
                member.wait_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _skip(reason: str) -> None:
    """End the running test as skipped: what it needs cannot be had in this mode."""
    import pytest

    pytest.skip(reason)
