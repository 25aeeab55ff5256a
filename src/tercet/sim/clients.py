"""Clients of a simulated cluster: they send requests, time out, switch members, and record what they saw.

Few keys and many clients, so that operations overlap. Every value is put by one operation only, so a read identifies the put
that it saw. An operation without a reply may have taken effect: the history says so, and clients never retry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Final, Protocol

from tercet import errors
from tercet.errors import CORRUPT, NO_SPACE, Code, RequestError, StatusError
from tercet.proto import rpc_pb2
from tercet.sim.auth_model import ROOT
from tercet.sim.clock import MICROSECONDS, TICK, Clock
from tercet.sim.history import Kind, Operation
from tercet.sim.requests import Done
from tercet.sim.trace import Trace
from tercet.sim.workload import SHORT_SECONDS, Workload, renewal

TIMEOUT: Final = 4 * MICROSECONDS
_UNIDENTIFIED: Final = (errors.AUTH_OLD_REVISION, errors.USER_EMPTY)  # users or roles, or the flag, have changed meanwhile
_POSSIBLE_ERRORS: Final = (
    errors.COMPACTED,
    errors.FUTURE_REVISION,
    errors.KEY_NOT_FOUND,
    errors.LEASE_EXISTS,
    errors.LEASE_NOT_FOUND,
    errors.NOT_PRIMARY,
    *_UNIDENTIFIED,
    errors.PERMISSION_DENIED,
    errors.ROOT_USER_NOT_FOUND,
    errors.ROOT_ROLE_NOT_FOUND,
    errors.USER_EXISTS,
    errors.USER_NOT_FOUND,
    errors.ROLE_EXISTS,
    errors.ROLE_NOT_FOUND,
    errors.ROLE_NOT_GRANTED,
    errors.PERMISSION_NOT_GRANTED,
    errors.INVALID_AUTH_MANAGEMENT,
)
_READERS: Final = (
    2  # clients that only read: writes, which block at a leader without a quorum, would keep them from reading there
)
_BURST_CHANCE: Final = 0.06  # several puts at once: they fill the inflight window, and the log of a leader that is cut off
_ADMIN_CHANCE: Final = 0.06  # where authentication is used: several requests about users and roles
_TIMED_OUT: Final = StatusError(Code.DEADLINE_EXCEEDED, "the client timed out")


class Server(Protocol):
    """A member, as a client sees it."""

    id: int

    def request(self, operation: Operation, done: Done) -> bool:
        """False: refused before anything was done, and `done` is not called."""
        ...


class Clients:
    """All clients of one simulation."""

    def __init__(
        self,
        clock: Clock,
        random: Random,
        trace: Trace,
        servers: Sequence[Server],
        *,
        count: int,
        keys: int,
        uses_auth: bool,
        answered: Callable[[Operation], None],
    ) -> None:
        """answered: called with each operation that was answered."""
        self.history: list[Operation] = []
        self.answered = 0
        self._clock = clock
        self._random = random
        self._trace = trace
        self._servers = servers
        self._count = count
        self._workload = Workload(random, keys=keys, uses_auth=uses_auth)
        self._answered = answered
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
            for key in self._workload.keys:
                self._send(-1, server, Operation(-1, Kind.GET, key, self._clock.now, username=ROOT))

    def _renew_at_the_end(self, operation: Operation) -> None:
        """Renew a short lease about when it expires: before, while it is being revoked, or after. Members do not forward
        renewals here, so each is asked; those that do not lead refuse.
        """
        response = operation.response
        if (
            not isinstance(response, rpc_pb2.LeaseGrantResponse | rpc_pb2.LeaseKeepAliveResponse)
            or response.TTL > SHORT_SECONDS
        ):
            return

        def renew() -> None:
            for server in () if self._is_stopped else self._servers:
                if self._random.random() < 0.7:
                    self._send(-1, server, renewal(response.ID, self._clock.now))

        end = operation.called + response.TTL * MICROSECONDS + self._random.randint(-TICK, 2 * TICK)
        self._clock.after(max(0, end - self._clock.now), renew)

    def burst(self, server: Server) -> None:
        """Send several puts at once, a read, and what a user may do with a lease of others."""
        for _ in range(self._random.randint(3, 20)):
            self._send(-1, server, self._workload.draw_put(-1, self._clock.now))
        key = self._random.choice(self._workload.keys)
        self._send(-1, server, Operation(-1, Kind.GET, key, self._clock.now, username=ROOT))
        for operation in self._workload.draw_leased(self._clock.now):
            self._send(-1, server, operation)

    def decide(self, server: Server, key: bytes) -> None:
        """Send a few writes whose effects the value of `key` decides."""
        for _ in range(self._random.randint(1, 3)):
            self._send(-1, server, self._workload.draw_deciding(-1, self._clock.now, key))

    def administrate(self, server: Server) -> None:
        """Send several requests about users and roles at once."""
        for _ in range(self._random.randint(3, 10)):
            operation = self._workload.draw_auth(-1, self._clock.now)
            if operation is not None:
                self._send(-1, server, operation)

    def _schedule(self, client: int, server: Server) -> None:
        self._clock.after(self._random.randint(0, TICK), lambda: self._act(client, server))

    def _act(self, client: int, server: Server) -> None:
        if self._is_stopped:
            return
        if self._random.random() < 0.2:
            server = self._random.choice(self._servers)
        if self._random.random() < _BURST_CHANCE:
            self.burst(server)
        if self._random.random() < _ADMIN_CHANCE:
            self.administrate(server)
        if not self._send(client, server, self._workload.draw(client, self._clock.now, reads_only=client < _READERS)):
            self._schedule(client, self._random.choice(self._servers))

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
            self._workload.replied(operation)
            self._answered(operation)
            self._renew_at_the_end(operation)
        elif error in _POSSIBLE_ERRORS and operation.kind is Kind.REQUEST:
            operation.returned = self._clock.now
            operation.error = error
        elif isinstance(error, RequestError) and error not in (NO_SPACE, CORRUPT, *_UNIDENTIFIED):
            raise error  # all requests are valid
        if self._trace.is_on:
            self._trace(f"c{operation.client}", f"reply of {server.id}: {operation if error is None else error}")
