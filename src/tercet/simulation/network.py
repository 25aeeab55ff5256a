"""The simulated network: listeners, links between hosts, and the faults of links.

A link delivers in order, after a latency that is drawn for each message. A blocked link holds what is sent over it, as TCP
does by repeating; a host that is down refuses connections.
"""

from __future__ import annotations

import asyncio
import math
import socket
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from contextvars import Context, copy_context
from random import Random
from typing import Any
from weakref import WeakKeyDictionary

from tercet.simulation.hosts import Boot, Host, current_boot
from tercet.simulation.transport import SimulatedTransport

ProtocolFactory = Callable[[], asyncio.BaseProtocol]
Direction = tuple[str, str]

LOCAL = frozenset({"localhost", "127.0.0.1", "", "0.0.0.0", "::1", "::"})
_EPHEMERAL_PORT = 40_000


class Listener(asyncio.AbstractServer):
    """What `create_server` returns."""

    def __init__(self, network: Network, boot: Boot | None, port: int, factory: ProtocolFactory, context: Context) -> None:
        self.boot = boot
        self.port = port
        self.factory = factory
        self.context = context
        self._network = network
        self._is_open = True

    @property
    def sockets(self) -> tuple[VirtualSocket, ...]:
        address = self.boot.host.address if self.boot is not None else "127.0.0.1"
        return (VirtualSocket(address, self.port),) if self._is_open else ()

    def close(self) -> None:
        self._is_open = False
        self._network.forget(self)

    def is_serving(self) -> bool:
        return self._is_open

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._network.loop

    async def start_serving(self) -> None:
        pass

    async def serve_forever(self) -> None:
        await asyncio.Event().wait()

    async def wait_closed(self) -> None:
        pass


class VirtualSocket(socket.socket):
    """Stands for a bound socket where one is asked for; it is none of the kernel's."""

    def __init__(self, address: str, port: int) -> None:
        self._name = (address, port)

    def getsockname(self) -> Any:
        return self._name

    def listen(self, backlog: int = 0, /) -> None:
        pass

    def close(self) -> None:
        pass


class Network:
    """All hosts and links of a world. latency_seconds: bounds of the latency of a message."""

    loop: asyncio.AbstractEventLoop
    run_soon: Callable[[list[asyncio.Handle]], None]
    """Of the loop: run callbacks that a paused host has kept."""

    def __init__(self, random: Random, latency_seconds: tuple[float, float]) -> None:
        self.latency_seconds = latency_seconds
        self.hosts: dict[str, Host] = {}
        self.is_closed = False
        self.digest = 0
        """A checksum of all that was delivered, and when: equal for two runs of a seed."""
        self.messages = 0
        self._random = random
        self._by_address: dict[str, Host] = {}
        self._listeners: dict[tuple[Host | None, int], Listener] = {}
        self._blocked: set[Direction] = set()
        self._extra_latency: dict[Direction, float] = {}
        self._transports: set[SimulatedTransport] = set()
        self._stalled: dict[SimulatedTransport, None] = {}
        self._unblocked = asyncio.Event()
        self._next_port = _EPHEMERAL_PORT
        self._reached: WeakKeyDictionary[socket.socket, tuple[str, int]] = WeakKeyDictionary()

    # --- hosts and names

    def add_host(self, name: str) -> Host:
        if name in self.hosts:
            raise ValueError(f"there is a host {name} already")
        number = len(self.hosts) + 1
        host = Host(name, f"10.0.{number // 250}.{number % 250 + 1}", lambda handles: self.run_soon(handles))
        self.hosts[name] = self._by_address[host.address] = host
        return host

    def resolve(self, name: str) -> str:
        """The address of a host, by its name or address. Raises socket.gaierror."""
        if name in LOCAL:
            here = current_boot()
            return here.host.address if here is not None else "127.0.0.1"
        found = self.hosts.get(name) or self._by_address.get(name)
        if found is None:
            raise socket.gaierror(socket.EAI_NONAME, f"no simulated host is called {name}")
        return found.address

    # --- listening and connecting

    def listen(self, factory: ProtocolFactory, host: str | None, port: int) -> Listener:
        here = current_boot()
        at = here.host if here is not None else None
        if not port:
            self._next_port += 1
            port = self._next_port
        taken = self._listeners.get((at, port))
        if taken is not None and not (taken.boot is not None and taken.boot.is_over):
            raise OSError(98, f"address already in use: {host}:{port}")
        listener = self._listeners[at, port] = Listener(self, here, port, factory, copy_context())
        return listener

    def forget(self, listener: Listener) -> None:
        at = listener.boot.host if listener.boot is not None else None
        if self._listeners.get((at, listener.port)) is listener:
            del self._listeners[at, listener.port]

    async def reach(self, sock: socket.socket, host: str, port: int) -> None:
        """The first half of a connection: return when a SYN is answered. Raises ConnectionRefusedError."""
        await self._listener(self.resolve(host), port)
        self._reached[sock] = (host, port)

    def dialled(self, sock: socket.socket) -> tuple[str, int]:
        return self._reached.pop(sock)

    async def connect(self, factory: ProtocolFactory, host: str, port: int) -> tuple[SimulatedTransport, asyncio.BaseProtocol]:
        """Raises ConnectionRefusedError or socket.gaierror. Waits while the link is blocked."""
        here = current_boot()
        listener = await self._listener(self.resolve(host), port)
        self._next_port += 1
        near_address = (here.host.address if here is not None else "127.0.0.1", self._next_port)
        far_address = (self.resolve(host), port)
        near = SimulatedTransport(self, here, near_address, far_address)
        far = SimulatedTransport(self, listener.boot, far_address, near_address, listener.context)
        near.other, far.other = far, near
        self._transports |= {near, far}
        far.schedule(lambda: far.begin(listener.factory()))
        protocol = factory()
        near.begin(protocol)
        return near, protocol

    async def _listener(self, address: str, port: int) -> Listener:
        here = current_boot()
        near = here.host if here is not None else None
        far = self._by_address.get(address)
        there = (near.name if near else "", far.name if far else "")
        await asyncio.sleep(self._latency(there))
        while there in self._blocked or there[::-1] in self._blocked:
            await self._unblocked.wait()
        await asyncio.sleep(self._latency(there[::-1]))
        listener = self._listeners.get((far, port))
        if self.is_closed or listener is None or (listener.boot is not None and listener.boot.is_over):
            raise ConnectionRefusedError(111, f"connection refused by {far.name if far else address}:{port}")
        return listener

    # --- links

    def arrival(self, source: Boot | None, target: Boot | None, not_before: float) -> float:
        """When a message that is sent now arrives: after `not_before`, as timers of the same time run in any order."""
        return max(math.nextafter(not_before, math.inf), self.loop.time() + self._latency((_name(source), _name(target))))

    def _latency(self, direction: Direction) -> float:
        if direction[0] == direction[1]:
            return 20e-6
        return self._random.uniform(*self.latency_seconds) + self._extra_latency.get(direction, 0.0)

    def is_blocked(self, source: Boot | None, target: Boot | None) -> bool:
        return (_name(source), _name(target)) in self._blocked

    def stall(self, transport: SimulatedTransport) -> None:
        """Deliver to `transport` again when links are unblocked."""
        self._stalled[transport] = None

    def note(self, source: Boot | None, target: Boot | None, data: bytes) -> None:
        """Account for a delivery."""
        self.messages += 1
        head = f"{self.loop.time():.9f} {_name(source)} {_name(target)} ".encode()
        self.digest = zlib.crc32(data, zlib.crc32(head, self.digest))

    def block(self, sources: Iterable[Host], targets: Iterable[Host], *, both_ways: bool = True) -> None:
        """Hold what is sent from each source to each target."""
        for source in sources:
            for target in targets:
                self._blocked.add((source.name, target.name))
                if both_ways:
                    self._blocked.add((target.name, source.name))

    def delay(self, source: Host, target: Host, seconds: float) -> None:
        """Add to the latency of one direction; 0 takes it away."""
        self._extra_latency[source.name, target.name] = seconds

    def heal(self) -> None:
        """End all blocks and delays of links; what was held is delivered."""
        self._blocked.clear()
        self._extra_latency.clear()
        stalled, self._stalled = self._stalled, {}
        for transport in stalled:
            transport.resume_delivery()
        self._unblocked.set()
        self._unblocked = asyncio.Event()

    def host_crashed(self, boot: Boot) -> None:
        """Break the connections of a host that is down."""
        for transport in sorted((one for one in self._transports if one.boot is boot), key=lambda one: one.number):
            transport.break_off()

    def drop(self, transport: SimulatedTransport) -> None:
        self._transports.discard(transport)

    def close(self) -> None:
        """End all connections: the world is over."""
        self.is_closed = True
        for transport in sorted(self._transports, key=lambda one: one.number):
            with suppress(Exception):
                transport.abort()


def _name(boot: Boot | None) -> str:
    return boot.host.name if boot is not None else ""
