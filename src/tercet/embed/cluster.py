"""Several members of one cluster in this process, each in a thread of its own.

    with Cluster(size=3) as cluster:
        print(cluster.endpoints)

The first member is elected as soon as it reaches a quorum; the others may follow later.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from tercet.embed.addresses import Port
from tercet.embed.clock import ClockKind
from tercet.embed.cluster_clients import ClusterClients
from tercet.embed.links import FaultyPeers, Links
from tercet.embed.member import EmbeddedMember, Faults, StorageKind
from tercet.embed.settings import Setting
from tercet.embed.threaded import ThreadedServer
from tercet.errors import NO_LEADER
from tercet.replica.identity import member_id
from tercet.replica.reset import is_idle
from tercet.rpc import Handler

if TYPE_CHECKING:
    from tercet.embed.certificates import Certificates

_TOKEN: Final = "tercet-embedded"
_SECONDS_MAX: Final = 60.0
_POLL_SECONDS: Final = 0.002
_CAMPAIGN_SECONDS: Final = 0.05


class Cluster(ClusterClients):
    """`size` members named m0, m1 and so on.

    storage: "memory", or "disk" below `directory`. clock, config: as of Server, for every member.
    tls: members use TLS among themselves and to clients, which need a certificate; `tls` has the files.
    seed: of the links' chance, for messages that are dropped.
    wrap_handlers: called with a member's name and handlers, to inject faults.
    """

    def __init__(
        self,
        size: int = 3,
        *,
        storage: StorageKind = "memory",
        directory: Path | None = None,
        clock: ClockKind = "real",
        tls: bool = False,
        config: Mapping[str, Setting] | None = None,
        seed: int | None = None,
        wrap_handlers: Callable[[str, dict[str, Handler]], dict[str, Handler]] | None = None,
    ) -> None:
        ports = {f"m{number}": Port(secure=tls) for number in range(size)}
        self.certificates = _certificates(list(ports)) if tls else None
        """Of a cluster with tls=True."""
        self._ports = list(ports.values())
        self.links = Links({name: port.address for name, port in ports.items()}, Random(seed))
        settings: dict[str, Setting] = {"initial_cluster_token": _TOKEN, **(config or {})}
        token = str(settings["initial_cluster_token"])
        names = {member_id([port.url], token): name for name, port in ports.items()}
        self.members: list[ThreadedServer] = []
        try:
            self._add_members(ports, names, storage, directory, clock, settings, wrap_handlers)
        except BaseException:  # a setting that cannot be used
            self.close()
            raise

    def _add_members(
        self,
        ports: dict[str, Port],
        names: dict[int, str],
        storage: StorageKind,
        directory: Path | None,
        clock: ClockKind,
        settings: dict[str, Setting],
        wrap_handlers: Callable[[str, dict[str, Handler]], dict[str, Handler]] | None,
    ) -> None:
        for name in ports:
            faults = Faults(
                wrap_peers=partial(FaultyPeers, name, names, self.links),
                reaches=partial(self.links.reaches, name),
                wrap_handlers=None if wrap_handlers is None else partial(wrap_handlers, name),
            )
            data_dir = None if storage == "memory" else (directory or Path.cwd()) / name
            self.members.append(
                ThreadedServer(
                    name=name,
                    members=ports,
                    storage=storage,
                    data_dir=data_dir,
                    clock=clock,
                    config={**(self.certificates.settings(name) if self.certificates else {}), **settings},
                    faults=faults,
                )
            )

    # --- start and stop

    def start(self) -> Self:
        """Start all members; return when all serve clients."""
        for member in self.members:
            member.server.addresses.listen()
        starting = [member.start_soon() for member in self.members]
        electing = self.members[0].submit(_elect(self.members[0].server))
        try:
            for one in starting:
                one.result(_SECONDS_MAX)
        finally:
            electing.cancel()
        return self

    def close(self) -> None:
        """Stop all members at once, and release everything. In a child process after a fork: nothing, it is the parent's."""
        if any(member.is_of_parent for member in self.members):
            return
        for member in self.members:
            member.resume()
        stopping = [member.submit(member.server.stop()) for member in self.members if member.is_running]
        for one in stopping:
            one.result(_SECONDS_MAX)
        for member in self.members:
            member.close()
        for port in self._ports:
            port.close()
        if self.certificates is not None:
            self.certificates.close()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)

    # --- state

    def __getitem__(self, number: int) -> ThreadedServer:
        return self.members[number]

    @property
    def running(self) -> list[ThreadedServer]:
        """Members that are neither stopped nor paused."""
        return [member for member in self.members if member.is_running and not member.is_paused]

    def find_leader(self) -> ThreadedServer | None:
        """The running member that leads in the highest term, if any."""
        leading = [
            (replica.term, member)
            for member in self.running
            if (driver := member.server.member) is not None and (replica := driver.replica).is_leader
        ]
        return max(leading, key=lambda pair: pair[0])[1] if leading else None

    def leader(self, seconds: float = 30.0) -> ThreadedServer:
        """Wait for a leader that a quorum of the members knows. Raises NO_LEADER after `seconds`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            leader = self.find_leader()
            if leader is not None:
                followers = [member for member in self.running if self._leader_of(member) == leader.member_id]
                if 2 * len(followers) > len(self.members):
                    return leader
            time.sleep(_POLL_SECONDS)
        raise NO_LEADER

    def _leader_of(self, member: ThreadedServer) -> int:
        driver = member.server.member
        return driver.replica.leader_id if driver is not None else 0

    # --- reset

    def reset(self) -> None:
        """Forget everything that clients have stored, on all members, which must be running and caught up.

        All members stand still while they are reset, at one applied index. Raises TimeoutError if they do not get there
        because clients go on writing, or a member cannot follow.
        """
        deadline = time.monotonic() + _SECONDS_MAX
        while True:
            for member in self.members:
                member.pause()
            try:
                if self._are_equal():
                    for member in self.members:
                        member.call_paused(member.server.reset_now)
                    return
            finally:
                for member in self.members:
                    member.resume()
            if time.monotonic() > deadline:
                raise TimeoutError("the members of the cluster did not come to the same applied index")
            time.sleep(_POLL_SECONDS)

    def _are_equal(self) -> bool:
        replicas = [driver.replica for member in self.members if (driver := member.server.member) is not None]
        indexes = {replica.raft.log.last_index for replica in replicas}
        return len(replicas) == len(self.members) and len(indexes) == 1 and all(map(is_idle, replicas))


def _certificates(names: Sequence[str]) -> Certificates:
    from tercet.embed.certificates import Certificates  # cryptography takes 100 ms to import

    return Certificates(names)


async def _elect(server: EmbeddedMember) -> None:
    """Make this member the leader as soon as it reaches a quorum, instead of waiting for an election timeout."""
    pause = _CAMPAIGN_SECONDS
    while (member := server.member) is None or member.transport is None:
        await asyncio.sleep(_POLL_SECONDS)
    transport, replica = member.transport, member.replica
    while not replica.leader_id and not replica.is_stopped:
        active = 1 + sum(transport.active_since(peer) is not None for peer in transport.peers)
        if 2 * active > len(replica.voters):
            member.guard(replica.campaign)
            await asyncio.sleep(pause)
            pause *= 2
        else:
            await asyncio.sleep(_POLL_SECONDS)
