"""A member in the caller's event loop: its configuration, start, stop and state. `tercet.Server` is this class.

The member is the same as in a process of its own; what differs is given by `server.hosting.Hosting`: sockets that are bound
already, storage in memory, no message to a service manager.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self, get_args

from tercet.client import AsyncClient
from tercet.embed.addresses import Addresses, Port
from tercet.embed.clock import ClockKind
from tercet.embed.environment import client_environment
from tercet.embed.member_time import MemberTime
from tercet.embed.settings import Setting, configure, is_secure
from tercet.errors import STOPPED, ConfigError, StorageFailure
from tercet.http1.messages import HttpHandler
from tercet.replica import reset
from tercet.rpc import Handler, in_process_connection
from tercet.server.client_listeners import ClientListeners
from tercet.server.hosting import Hosting
from tercet.server.member_server import MemberServer
from tercet.server.memory_storage import MemoryStorage
from tercet.server.replica_driver import Peers, ReplicaDriver
from tercet.server.snapshot_file import database_chunks
from tercet.services.awaitables import open_view

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Faults:
    """Where faults are injected: see `server.hosting.Hosting`, which has the same fields."""

    wrap_peers: Callable[[Peers], Peers] | None = None
    reaches: Callable[[str], bool] | None = None
    wrap_handlers: Callable[[dict[str, Handler]], dict[str, Handler]] | None = None


StorageKind = Literal["memory", "disk"]

_RESET: Final = "tercet: the server was reset"
_IDLE_SECONDS_MAX: Final = 5.0
_numbers: Final = itertools.count()  # of the servers of this process


class EmbeddedMember(MemberTime):
    """A member; alone in its cluster, unless `members` names more.

    data_dir: where to store; with it, storage is "disk".
    listen: `host:port` for clients, or `unix:///path`; port 0 is chosen by the kernel.
    name: of the member. members: peer ports of all members of a new cluster by name, this one's among them.
    services: own gRPC handlers by path, beside etcd's. routes: own HTTP handlers by path.
    clock: "manual" stops the time of leases, tokens and automatic compaction, except for `advance`.
    config: etcd's flags, with `_` for `-`: {"quota_backend_bytes": 1 << 30}.
    notify: tell the service manager ($NOTIFY_SOCKET) when the member is ready.
    faults: of a test (tercet.testing).
    Raises ConfigError for settings that do not fit, and OSError if an address cannot be bound.
    """

    def __init__(
        self,
        *,
        data_dir: str | os.PathLike[str] | None = None,
        listen: str = "127.0.0.1:0",
        storage: StorageKind | None = None,
        clock: ClockKind = "real",
        name: str = "default",
        members: Mapping[str, Port] | None = None,
        services: Mapping[str, Handler] | None = None,
        routes: Mapping[str, HttpHandler] | None = None,
        config: Mapping[str, Setting] | None = None,
        notify: bool = False,
        faults: Faults | None = None,
    ) -> None:
        storage = storage or ("memory" if data_dir is None else "disk")
        for option, value, choices in (("storage", storage, StorageKind), ("clock", clock, ClockKind)):
            if value not in get_args(choices):
                raise ConfigError(f"{option} is {' or '.join(get_args(choices))}, not {value}")
        if storage == "disk" and data_dir is None:
            raise ConfigError("storage='disk' needs data_dir")
        if storage == "memory" and data_dir is not None:
            raise ConfigError("storage='memory' and data_dir exclude each other")
        super().__init__(clock)
        self.name = name
        self._in_process_name = f"{name}-{next(_numbers)}"
        self.storage: MemoryStorage | None = MemoryStorage() if storage == "memory" else None
        self._services = dict(services or {})
        self._routes = dict(routes or {})
        self._notify = notify
        self._faults = faults or Faults()
        self._server: MemberServer | None = None
        self._failed: asyncio.Future[BaseException] | None = None
        self._ending: asyncio.Task[None] | None = None  # of a member that has failed
        self._ready: asyncio.Event | None = None
        own = config or {}
        self.addresses = Addresses(listen, members[name] if members else None, secure=is_secure(own))
        try:
            peer_url, client_url = self.addresses.peer_url, self.addresses.client_url
            cluster = {one: port.url for one, port in members.items()} if members else {name: peer_url}
            self.config = configure(
                {
                    "name": name,
                    "data_dir": "in memory" if data_dir is None else os.fspath(data_dir),
                    "listen_client_urls": client_url,
                    "advertise_client_urls": client_url,
                    "listen_peer_urls": peer_url,
                    "initial_advertise_peer_urls": peer_url,
                    "initial_cluster": ",".join(f"{one}={url}" for one, url in cluster.items()),
                    **own,
                }
            )
        except BaseException:
            self.close()
            raise
        self.endpoints: list[str] = [url.text for url in self.config.advertise_client_urls]

    # --- start and stop

    async def start(self) -> None:
        """Return when the member serves clients. Raises ConfigError or StorageFailure; then nothing of it is left."""
        if self._server is not None:
            raise RuntimeError(f"server {self.name} is running")
        loop = asyncio.get_running_loop()
        self._failed = loop.create_future()
        self._ending = None
        self._ready = asyncio.Event()
        hosting = Hosting(
            storage=self.storage,
            sockets=self.addresses.bind(),
            services=self._services,
            routes=self._routes,
            is_new_cluster=self.config.initial_cluster_state == "new",
            notifies=self._notify,
            stops_at_once=True,
            clock=self.clock.time,
            wrap_peers=self._faults.wrap_peers,
            reaches=self._faults.reaches,
            wrap_handlers=self._faults.wrap_handlers,
        )

        def removed() -> None:
            self._fail(ConfigError("the member has been permanently removed from the cluster"))

        server = self._server = MemberServer(self.config, on_failure=self._fail, on_removed=removed, hosting=hosting)
        try:
            await server.start()
        except BaseException:
            await self.stop()
            raise
        assert server.member is not None
        assert server.member.rpc_server is not None
        in_process_connection.publish(self._in_process_name, server.member.rpc_server)
        self._ready.set()

    async def stop(self) -> None:
        """Stop the member, without waiting for running requests. What is stored stays, for the next start."""
        if self._ending is not None:
            await self._ending
        await self._stop()

    async def _stop(self) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        self._ready = None
        in_process_connection.withdraw(self._in_process_name)
        try:
            await server.stop()
        finally:
            self.addresses.release()

    async def kill(self) -> None:
        """Stop as a process that is killed: connections break, and memory storage loses what was not synced.

        On disk this is a stop; for a member whose process ends, see `ServerProcess`.
        """
        server, member = self._server, self.member
        if server is None or member is None:
            return
        member.stop()
        if member.rpc_server is not None:
            member.rpc_server.close()
        if self.storage is not None:
            self.storage.crash()
        with suppress(StorageFailure):
            await self.stop()

    async def restart(self) -> None:
        """Stop, if it runs, and start again with the same ports."""
        await self.stop()
        await self.start()

    def close(self) -> None:
        """Release the ports. Call it after `stop`; the server cannot start again."""
        self.addresses.close()

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.stop()
        finally:
            self.close()

    # --- state

    @property
    def is_running(self) -> bool:
        return self._ready is not None and self._ready.is_set()

    @property
    def endpoint(self) -> str:
        return self.endpoints[0]

    @property
    def inprocess_endpoint(self) -> str:
        """For clients in the same event loop: their calls reach the handlers without a socket."""
        return f"inprocess://{self._in_process_name}"

    @property
    def env(self) -> dict[str, str]:
        """Variables with which etcdctl and tercetctl find this server."""
        return client_environment(self.endpoints)

    @property
    def member(self) -> ReplicaDriver | None:
        """The running member, from the time at which its log and backend are open."""
        return self._server.member if self._server is not None else None

    @property
    def listeners(self) -> ClientListeners | None:
        """Of clients, while they are served."""
        return self._server.listeners if self._server is not None else None

    @property
    def member_id(self) -> int:
        """Raises Unavailable while the member is not running."""
        return self._running().replica.member_id

    async def ready(self) -> None:
        """Wait until the member serves clients. Raises what has ended it instead."""
        if self._ready is None or self._failed is None:
            raise STOPPED
        serving = asyncio.ensure_future(self._ready.wait())
        try:
            await asyncio.wait((serving, self._failed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            serving.cancel()
        if not serving.done():
            raise self._failed.result()

    @property
    def failed(self) -> asyncio.Future[BaseException]:
        """Its result is the error that has ended the member; pending while there is none. Raises STOPPED before the start."""
        if self._failed is None:
            raise STOPPED
        return self._failed

    def metrics(self) -> str:
        """What GET /metrics answers."""
        self._running()
        assert self._server is not None
        if self._server.scrape is None:
            raise STOPPED
        return self._server.scrape(False)[2].decode()

    # --- use

    def client(self, **options: Any) -> AsyncClient:
        """A client of this member, in its event loop and without a socket; the caller closes it. options: of AsyncClient."""
        return AsyncClient(self.inprocess_endpoint, **options)

    async def snapshot(self, path: str | os.PathLike[str]) -> None:
        """Write the store to a file, as `etcdctl snapshot save` does. The file appears when it is complete.

        Raises OSError; nothing is left then.
        """
        loop = asyncio.get_running_loop()
        partial = Path(f"{os.fspath(path)}.part")
        digest = hashlib.sha256()
        try:
            with partial.open("wb") as file:
                async for chunk in database_chunks(await open_view(self._running().replica)):
                    digest.update(chunk)
                    await loop.run_in_executor(None, file.write, chunk)
                file.write(digest.digest())
                file.flush()
                await loop.run_in_executor(None, os.fsync, file.fileno())
            partial.rename(path)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise

    async def reset(self) -> None:
        """Forget everything that clients have stored, and cancel their watches; the next revision is 2.

        Only for a member that is alone in its cluster. Raises TimeoutError if entries wait to be applied for 5 s.
        """
        async with asyncio.timeout(_IDLE_SECONDS_MAX):
            while not reset.is_idle(self._running().replica):
                await asyncio.sleep(0.001)
        self.reset_now()

    def reset_now(self) -> None:
        """`reset` of an idle member, of any cluster."""
        replica = self._running().replica
        assert self._server is not None
        if self._server.watches is not None:
            self._server.watches.cancel_all(_RESET)
        reset.reset(replica)

    def _running(self) -> ReplicaDriver:
        member = self.member
        if member is None:
            raise STOPPED
        return member

    # --- callbacks of the member

    def _fail(self, error: BaseException) -> None:
        logger.critical("stopping the member after a failure: %s", error)
        if self._failed is not None and not self._failed.done():
            self._failed.set_result(error)
            self._ending = asyncio.get_running_loop().create_task(self._stop())  # as a process would exit
