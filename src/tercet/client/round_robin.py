"""Connections to all endpoints, for clients that spread their calls: each call takes the next one.

There is a connector for each endpoint, which prefers it: it uses the following endpoints while its own fails, and tries every
five seconds to come back. A call is thus never left to a dead member, and the others share its calls until it returns.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from tercet.client.connector import Connector, Limits
from tercet.client.endpoint import Endpoint, parse_endpoint
from tercet.client.events import Events
from tercet.client.tls import TLSFiles

if TYPE_CHECKING:
    from tercet.client.connections import Connection, Stream
    from tercet.client.srv import SrvDomain

_RETURN_SECONDS = 5.0


class RoundRobin:
    """Arguments and methods are those of Connector."""

    def __init__(
        self,
        endpoints: Sequence[str],
        tls: TLSFiles | ssl.SSLContext | None,
        limits: Limits,
        events: Events,
        *,
        domain: SrvDomain | None = None,
        on_connected: Callable[[], object] = lambda: None,
    ) -> None:
        self._make = partial(Connector, tls=tls, limits=limits, events=events)
        self._on_connected = on_connected
        self._connectors: list[Connector] = []
        self._homes: list[Endpoint] = []
        self._returning: dict[int, asyncio.Task[None]] = {}
        self._turn = 0
        if domain is not None:
            self._connectors.append(self._make([], domain=domain, on_connected=self._discovered))
        else:
            self._spread(endpoints)

    def _spread(self, endpoints: Sequence[str]) -> None:
        """A connector for each endpoint; those that there are keep their connections."""
        self._homes = [parse_endpoint(text) for text in endpoints]
        for number, connector in enumerate(self._connectors):
            connector.replace(_from(endpoints, number))
        for number in range(len(self._connectors), max(1, len(endpoints))):
            connected = partial(self._connected, number)
            self._connectors.append(self._make(_from(endpoints, number), on_connected=connected))

    def _discovered(self) -> None:
        """The first connector has connected to an endpoint of the domain."""
        if not self._homes:
            self._spread([endpoint.text for endpoint in self._connectors[0].endpoints])
        self._connected(0)

    def _connected(self, number: int) -> None:
        self._on_connected()
        returning = self._returning.get(number)
        if not self._is_home(number) and (returning is None or returning.done()):
            self._returning[number] = asyncio.create_task(self._return(number))

    def _is_home(self, number: int) -> bool:
        return self._connectors[number].endpoint == self._homes[number % len(self._homes)]

    async def _return(self, number: int) -> None:
        """Use the connector's own endpoint again, as soon as it answers."""
        while not self._is_home(number):
            await asyncio.sleep(_RETURN_SECONDS)
            await self._connectors[number].go_home(self._homes[number % len(self._homes)])

    # --- as of Connector

    @property
    def endpoints(self) -> list[Endpoint]:
        return self._connectors[0].endpoints

    @property
    def endpoint(self) -> Endpoint:
        return self._connectors[self._turn].endpoint

    @property
    def usable(self) -> Connection | None:
        """The connection of the next call, if it is open."""
        self._turn = (self._turn + 1) % len(self._connectors)
        return self._connectors[self._turn].usable

    async def connected(self, deadline: float) -> Connection:
        connector = self._connectors[self._turn]
        if connector.usable is not None:
            self._turn = (self._turn + 1) % len(self._connectors)
            connector = self._connectors[self._turn]
        channel = await connector.connected(deadline)
        self._turn = self._connectors.index(connector)  # other calls may have taken their turns
        return channel

    def call_begins(self) -> None:
        self._connectors[self._turn].call_begins()

    def stream_begins(self, channel: Connection) -> None:
        for connector in self._connectors:
            connector.stream_begins(channel)

    def replace(self, endpoints: Sequence[str]) -> None:
        self._spread(endpoints)

    async def drop(self, channel: Connection) -> None:
        for connector in self._connectors:
            await connector.drop(channel)

    async def leave(self, stream: Stream) -> None:
        for connector in self._connectors:
            await connector.leave(stream)

    async def close(self) -> None:
        returning = list(self._returning.values())
        for task in returning:
            task.cancel()
        await asyncio.gather(*returning, return_exceptions=True)
        for connector in self._connectors:
            await connector.close()

    def after_fork(self) -> None:
        self._returning = {}
        for connector in self._connectors:
            connector.after_fork()


def _from(endpoints: Sequence[str], number: int) -> list[str]:
    """All endpoints, beginning with that of a number."""
    start = number % len(endpoints) if endpoints else 0
    return [*endpoints[start:], *endpoints[:start]]
