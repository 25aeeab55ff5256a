"""A cluster of real members on simulated hosts.

The members are those of `tercet.Server`: raft, log, store, services and HTTP/2 run unchanged. Their disks are in memory; a
crash loses what was not synced.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from tercet.client import AsyncClient
from tercet.embed.settings import Setting, configure
from tercet.server.hosting import Hosting
from tercet.server.member_server import MemberServer
from tercet.server.memory_storage import MemoryStorage
from tercet.simulation.hosts import Host
from tercet.simulation.network import Network, VirtualSocket

CLIENT_PORT, PEER_PORT = 2379, 2380


class SimulatedMember:
    """One member on its host; `crash` and `start` as often as wanted."""

    def __init__(self, host: Host, network: Network, config: Mapping[str, Setting]) -> None:
        self.host = host
        self.endpoint = f"http://{host.address}:{CLIENT_PORT}"
        self.failure: BaseException | None = None
        self._network = network
        self._config = configure(config)
        self._storage = MemoryStorage()
        self._server: MemberServer | None = None
        self._starting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return when the member serves clients. A start that is under way is joined, and goes on if this call is cancelled."""
        await asyncio.shield(self.start_soon())

    def start_soon(self) -> asyncio.Task[None]:
        if self._starting is None or self._starting.done():
            self._starting = self.host.start(self._start())
        return self._starting

    async def _start(self) -> None:
        sockets = {f"{self.host.address}:{port}": VirtualSocket(self.host.address, port) for port in (CLIENT_PORT, PEER_PORT)}
        hosting = Hosting(
            storage=self._storage,
            sockets=sockets,
            is_new_cluster=True,
            notifies=False,
            stops_at_once=True,
            measures_turns=False,
        )
        self._server = MemberServer(self._config, on_failure=self._failed, on_removed=lambda: None, hosting=hosting)
        await self._server.start()

    def _failed(self, error: BaseException) -> None:
        self.failure = error

    @property
    def is_running(self) -> bool:
        return self._server is not None and self._server.member is not None

    @property
    def is_leader(self) -> bool:
        return self._server is not None and self._server.member is not None and self._server.member.replica.is_leader

    @property
    def revision(self) -> int:
        """Of the store; 0 while the member does not run."""
        member = self._server.member if self._server is not None else None
        return member.replica.store.revision if member is not None else 0

    def crash(self) -> None:
        """End the member without warning; its disk keeps what was synced."""
        boot = self.host.boot
        self.host.crash()
        self._network.host_crashed(boot)
        self._server = self._starting = None
        self._storage.crash()

    def pause(self) -> None:
        self.host.pause()

    def resume(self) -> None:
        self.host.resume()


class SimulatedCluster:
    """Members etcd0, etcd1, ... of one cluster. config: etcd's flags with `_`, for all."""

    def __init__(self, network: Network, size: int, config: Mapping[str, Setting] | None = None, *, name: str = "etcd") -> None:
        hosts = [network.add_host(f"{name}{number}") for number in range(size)]
        initial = ",".join(f"{host.name}=http://{host.address}:{PEER_PORT}" for host in hosts)
        self._network = network
        self.members: list[SimulatedMember] = [
            SimulatedMember(host, network, _settings(host, initial) | dict(config or {})) for host in hosts
        ]

    async def start(self) -> None:
        """Start all members; return when each serves clients."""
        await asyncio.gather(*(member.start() for member in self.members))

    @property
    def endpoints(self) -> list[str]:
        return [member.endpoint for member in self.members]

    @property
    def hosts(self) -> list[Host]:
        return [member.host for member in self.members]

    def client(self, **options: Any) -> AsyncClient:
        """A client of all members, on the host of the caller."""
        return AsyncClient(self.endpoints, **options)

    @property
    def leader(self) -> SimulatedMember | None:
        """A member that believes to lead, if there is one."""
        return next((member for member in self.members if member.is_leader), None)

    def partition(
        self, side: Iterable[SimulatedMember], other: Iterable[SimulatedMember] | None = None, *, oneway: bool = False
    ) -> None:
        """Hold what members of `side` and of `other` (by default all the others) send each other; oneway: only from `side`."""
        these = [member.host for member in side]
        those = [member.host for member in (self.members if other is None else other) if member.host not in these]
        self._network.block(these, those, both_ways=not oneway)

    def delay(self, source: SimulatedMember, target: SimulatedMember, seconds: float) -> None:
        """Add to the latency of what `source` sends to `target`; 0 takes it away."""
        self._network.delay(source.host, target.host, seconds)

    def heal(self) -> None:
        """End partitions and delays."""
        self._network.heal()

    async def restore(self) -> None:
        """End all faults, and start the members that do not run."""
        self.heal()
        for member in self.members:
            member.resume()
        await asyncio.gather(*(member.start() for member in self.members if not member.is_running))

    def check(self) -> None:
        """Raises the error that has ended a member, if there is one: a fault of tercet, not of the code under test."""
        for member in self.members:
            if member.failure is not None:
                raise member.failure


def _settings(host: Host, initial: str) -> dict[str, Setting]:
    client, peer = f"http://{host.address}:{CLIENT_PORT}", f"http://{host.address}:{PEER_PORT}"
    return {
        "name": host.name,
        "data_dir": "in memory",
        "listen_client_urls": client,
        "advertise_client_urls": client,
        "listen_peer_urls": peer,
        "initial_advertise_peer_urls": peer,
        "initial_cluster": initial,
    }
