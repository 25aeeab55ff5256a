"""Clients of a simulated cluster: they send requests, time out, switch members, and record what they saw.

Few keys and many clients, so that operations overlap. Every value is put by one operation only, so a read identifies the put
that it saw. An operation without a reply may have taken effect: the history says so, and clients never retry.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random
from typing import Final, Protocol

from tercet.errors import Code, RequestError, StatusError
from tercet.sim.clock import MICROSECONDS, TICK, Clock
from tercet.sim.history import Kind, Operation
from tercet.sim.requests import Done
from tercet.sim.trace import Trace

TIMEOUT: Final = 4 * MICROSECONDS
_KINDS: Final = [Kind.GET] * 8 + [Kind.PUT] * 7 + [Kind.CAS] * 3 + [Kind.DELETE] * 2
_TIMED_OUT: Final = StatusError(Code.DEADLINE_EXCEEDED, "the client timed out")


class Server(Protocol):
    """A member, as a client sees it."""

    id: int

    def request(self, operation: Operation, done: Done) -> bool:
        """False: refused before anything was done, and `done` is not called."""
        ...


class Clients:
    """All clients of one simulation."""

    def __init__(self, clock: Clock, random: Random, trace: Trace, servers: Sequence[Server], *, count: int, keys: int) -> None:
        self.history: list[Operation] = []
        self.answered = 0
        self._clock = clock
        self._random = random
        self._trace = trace
        self._servers = servers
        self._count = count
        self._keys = [b"key-%d" % number for number in range(keys)]
        self._seen: dict[bytes, bytes | None] = dict.fromkeys(self._keys)
        self._values = 0
        self._is_stopped = True
        self._running = 0

    @property
    def is_idle(self) -> bool:
        """No client waits for a reply."""
        return self._running == 0

    def start(self) -> None:
        """Let each client begin, at a time of its own."""
        self._is_stopped = False
        for client in range(self._count):
            self._schedule(client, self._servers[client % len(self._servers)])

    def stop(self) -> None:
        """No new operations; running ones may still be answered."""
        self._is_stopped = True

    def read_everything(self, servers: Iterable[Server]) -> None:
        """Read every key through each of `servers`: a loss shows even if no client would have read that key again."""
        for server in servers:
            for key in self._keys:
                self._send(-1, server, Operation(-1, Kind.GET, key, self._clock.now))

    def _schedule(self, client: int, server: Server) -> None:
        self._clock.after(self._random.randint(0, 4 * TICK), lambda: self._act(client, server))

    def _act(self, client: int, server: Server) -> None:
        if self._is_stopped:
            return
        if self._random.random() < 0.2:
            server = self._random.choice(self._servers)
        if not self._send(client, server, self._choose(client)):
            self._schedule(client, self._random.choice(self._servers))

    def _choose(self, client: int) -> Operation:
        random = self._random
        key = random.choice(self._keys)
        operation = Operation(client, random.choice(_KINDS), key, self._clock.now)
        if operation.kind in (Kind.PUT, Kind.CAS):
            self._values += 1
            # Some are longer than a sector, so that a power cut can tear them.
            operation.value = b"%d" % self._values + b"." * random.choice((0, 0, 0, 1000))
        if operation.kind is Kind.CAS:
            operation.expected = self._seen[key] if random.random() < 0.9 else None
        return operation

    def _send(self, client: int, server: Server, operation: Operation) -> bool:
        """Returns whether the server accepted it; from then on the operation is part of the history."""
        is_done = False

        def done(error: StatusError | None) -> None:
            nonlocal is_done
            if is_done:
                return  # a reply after the client's timeout
            is_done = True
            self._running -= 1
            self._record(server, operation, error)
            if client >= 0:
                self._schedule(client, server if error is None else self._random.choice(self._servers))

        if not server.request(operation, done):
            return False
        self._running += 1
        self.history.append(operation)
        if self._trace.is_on:
            self._trace(f"c{client}", f"sends to {server.id}: {operation}")
        self._clock.after(TIMEOUT, lambda: done(_TIMED_OUT))
        return True

    def _record(self, server: Server, operation: Operation, error: StatusError | None) -> None:
        if error is None:
            operation.returned = self._clock.now
            self.answered += 1
            if operation.kind is Kind.GET:
                self._seen[operation.key] = operation.found
            elif operation.took_effect:
                self._seen[operation.key] = operation.value
        elif isinstance(error, RequestError):
            raise error  # all these requests are valid
        if self._trace.is_on:
            self._trace(f"c{operation.client}", f"reply of {server.id}: {operation if error is None else error}")
