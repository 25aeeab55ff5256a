"""A lease that is kept alive, and revoked at the end.

    async with client.lease(10) as lease:
        await client.put("services/web/1", address, lease=lease)
        ...                                  # cancelled, and LeaseLost raised, if the lease is lost

A lease is lost when it expires, is revoked, or might have expired: no renewal was acknowledged for its TTL, counted from the
sending of the last one that was.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tercet.client.errors import Indeterminate, LeaseExists, LeaseLost, LeaseNotFound, TercetError, Unavailable
from tercet.client.lease_calls import LeaseCalls, LeaseInfo
from tercet.client.lease_keeper import LeaseKeeper
from tercet.errors import Code

logger = logging.getLogger(__name__)
_GRANT_ATTEMPTS_MAX = 5


class Lease:
    """`id` and `ttl_seconds` are those of the server, after `start`. A lease can be started once."""

    id: int
    ttl_seconds: int

    def __init__(self, calls: LeaseCalls, keeper: LeaseKeeper, *, ttl_seconds: int, id: int = 0) -> None:
        """id: 0 for one that is chosen at random."""
        self.id = id or secrets.randbits(62) + 1
        self.ttl_seconds = ttl_seconds
        self._calls = calls
        self._keeper = keeper
        self._is_own_id = not id
        self._is_started = False
        self._nanoseconds = 0
        self._lost = asyncio.Event()
        self._callbacks: list[Callable[[], object]] = []
        self._block: CancelWhenLost | None = None

    def __repr__(self) -> str:
        state = "lost" if self.is_lost else "started" if self._is_started else "not started"
        return f"<Lease {self.id:x} of {self.ttl_seconds} s, {state}>"

    async def start(self) -> Self:
        """Grant the lease and keep it alive until `revoke` or `forget`. Raises LeaseExists for a given ID, TercetError."""
        if self._is_started:
            raise RuntimeError("a lease can be started once")
        sent_at = self._keeper.clock()
        try:
            granted = await self._grant()
        except asyncio.CancelledError:
            self._keeper.revoke_later(self._revoke_unanswered())
            raise
        self._is_started = True
        self.ttl_seconds = granted.granted_ttl_seconds
        self._keeper.keep(self.id, ttl_seconds=self.ttl_seconds, sent_at=sent_at, on_lost=self._lose)
        return self

    async def __aenter__(self) -> Self:
        await self.start()
        self._block = CancelWhenLost(self)
        await self._block.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Revoke the lease; a member that cannot be reached lets it expire. Raises LeaseLost if it was lost in the block."""
        try:
            if self._block is not None:
                await self._block.__aexit__(kind, error, trace)
        finally:
            if not self.is_lost:
                await self._revoke_at_exit()

    @property
    def is_lost(self) -> bool:
        return self._lost.is_set()

    @property
    def remaining_seconds(self) -> float:
        """Until the lease counts as lost unless it is renewed. Local: no request is made."""
        return self._keeper.remaining_seconds(self.id)

    async def wait_lost(self) -> None:
        """Wait until the lease is lost."""
        await self._lost.wait()

    def on_lost(self, callback: Callable[[], object]) -> None:
        """Call `callback` in the event loop when the lease is lost; at once if it is. It must not block.

        What it raises is logged.
        """
        if self.is_lost:
            callback()
        else:
            self._callbacks.append(callback)

    def cancel_on_loss(self) -> CancelWhenLost:
        """A block that is cancelled when the lease is lost, and raises LeaseLost then."""
        return CancelWhenLost(self)

    async def info(self, *, keys: bool = False) -> LeaseInfo:
        """What the cluster knows of the lease. Raises LeaseNotFound, TercetError."""
        return await self._calls.lease_info(self.id, keys=keys)

    async def revoke(self) -> None:
        """End the lease and delete its keys; it does not count as lost. If it is gone already, nothing happens."""
        self.forget()
        try:
            await self._calls.revoke_lease(self.id)
        except LeaseNotFound:
            pass
        except asyncio.CancelledError:
            self._keeper.revoke_later(self._revoke_unanswered())
            raise

    def forget(self) -> None:
        """Stop keeping the lease alive: its keys outlive this call by up to a TTL."""
        self._keeper.forget(self.id)

    def lost_error(self) -> LeaseLost:
        """The exception for what was done under a lost lease."""
        return LeaseLost(f"lease {self.id:x} is lost: it has expired, or may have", Code.NOT_FOUND)

    def _lose(self) -> None:
        self._lost.set()
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            try:
                callback()
            except Exception:  # the others must hear of it, and the other leases of the client be renewed
                logger.exception("a callback of lease %x has failed: it was called since the lease is lost", self.id)

    def unique_nanoseconds(self) -> int:
        """The time for the name of a key. No two are equal, also where the clock is coarse."""
        self._nanoseconds = max(self._nanoseconds + 1, time.time_ns())
        return self._nanoseconds

    def discard_callback(self, callback: Callable[[], object]) -> None:
        with contextlib.suppress(ValueError):
            self._callbacks.remove(callback)

    async def _grant(self) -> LeaseInfo:
        """Grant the lease. With a random ID, a request without an answer is repeated: "exists" means that it arrived."""
        for attempt in range(_GRANT_ATTEMPTS_MAX):
            try:
                granted = await self._calls.grant_lease(self.ttl_seconds, id=self.id)
                self.id = granted.id
                return granted
            except LeaseExists:
                if not self._is_own_id or not attempt:
                    raise
                return await self._calls.lease_info(self.id)
            except Indeterminate:
                if not self._is_own_id or attempt == _GRANT_ATTEMPTS_MAX - 1:
                    raise
        raise Unavailable("the lease was not granted", Code.UNAVAILABLE)

    async def _revoke_unanswered(self) -> None:
        """After a grant, or a revocation, without an answer: it may have been made."""
        try:
            await self._calls.revoke_lease(self.id)
        except TercetError as error:
            logger.debug("lease %x is left to expire if it was granted: %s", self.id, error)

    async def _revoke_at_exit(self) -> None:
        try:
            async with asyncio.timeout(self.ttl_seconds):
                await self.revoke()
        except (TercetError, TimeoutError) as error:
            logger.warning("lease %x is left to expire: %s", self.id, error)


class CancelWhenLost:
    """Cancels the task that entered the block when the lease is lost; the block then raises LeaseLost.

    The same protocol as asyncio.timeout: a cancellation from elsewhere stays a CancelledError.
    """

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._has_cancelled = False

    async def __aenter__(self) -> Self:
        if self._lease.is_lost:
            raise self._lease.lost_error()
        self._task = asyncio.current_task()
        self._cancelling = 0 if self._task is None else self._task.cancelling()
        self._lease.on_lost(self._cancel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lease.discard_callback(self._cancel)
        is_ours = False
        if self._has_cancelled and self._task is not None:
            is_ours = self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError
        if self._lease.is_lost and (is_ours or kind is None):
            raise self._lease.lost_error() from error

    def _cancel(self) -> None:
        if self._task is not None:
            self._has_cancelled = self._task.cancel()
