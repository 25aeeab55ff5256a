"""A key under a lease whose creator waits for its turn: the base of locks, permits and leaderships.

The key's create_revision gives its place: it rises from creator to creator. It is also the fencing token: a store outside etcd
that remembers the highest token it has seen refuses a holder that has been overtaken.

    async with client.lock("reports", ttl_seconds=10) as lock:
        await client.txn(then=[...], guard=lock)      # changes nothing unless the lock is still held
        archive.write(data, token=lock.token)         # the archive must check the token itself

A holder is never sure that it still holds: it may be paused between the check and the act. That is what the token is for.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from tercet.client.core_calls import CoreCalls
from tercet.client.errors import LeaseLost, LockLost, TercetError
from tercet.client.key_space import Text, to_bytes
from tercet.client.lease import CancelWhenLost, Lease
from tercet.client.recipes.repeating import undisturbed, until_known
from tercet.client.results import KV
from tercet.errors import Code

logger = logging.getLogger(__name__)


class HeldKey(ABC):
    """Use it with `async with`, which waits, or call `acquire` and `release`. It can be acquired again after a release."""

    def __init__(self, client: CoreCalls, name: Text, *, ttl_seconds: int, lease: Lease | None) -> None:
        """lease: one that the caller keeps; None: a lease of its own for each time it is acquired."""
        self._client = client
        self._name = to_bytes(name)
        self._ttl_seconds = ttl_seconds
        self._given_lease = lease
        self._lease: Lease | None = None
        self._key = b""
        self._token = 0
        self._is_held = False
        self._is_taken = False
        self._waiting: _Waiting | None = None
        self._block: CancelWhenLost | None = None

    def __repr__(self) -> str:
        state = "held" if self.is_held else "lost" if self._is_held else "waiting" if self._is_taken else "not held"
        return f"<{type(self).__name__} {self._name!r} {state}{f', token {self._token}' if self._token else ''}>"

    # For owners

    async def acquire(self, timeout: float | None = None) -> bool:
        """Wait for the turn. Returns False after `timeout` seconds, or a `release` meanwhile; 0: as `try_acquire`.

        Before it returns False, or ends because it is cancelled, it makes sure that nothing is left in the line, which takes up
        to the TTL while no member can be reached. Raises LeaseLost, TercetError.
        """
        if timeout == 0:
            return await self._acquire(None, can_wait=False)
        return await self._acquire(timeout, can_wait=True)

    async def try_acquire(self) -> bool:
        """Acquire if nobody has to be waited for. Raises LeaseLost, TercetError."""
        return await self._acquire(None, can_wait=False)

    async def release(self) -> None:
        """Give it up, or stop waiting for it; nothing happens if it is neither held nor waited for.

        Raises TercetError, LeaseLost if it was lost before.
        """
        if self._waiting is not None:
            await self._waiting.end()  # it may have got its turn at the last moment
        lease, self._is_held = self._lease, False
        if lease is None:
            return
        if lease.is_lost:
            self._forget()
            raise lease.lost_error()
        await self._leave(lease)

    async def __aenter__(self) -> Self:
        if not await self.acquire():
            raise LockLost(f"{self._name!r} was released while this block waited for it", Code.FAILED_PRECONDITION)
        assert self._lease is not None
        block = self._lease.cancel_on_loss()
        try:
            await block.__aenter__()
        except LeaseLost:
            self._forget()
            raise
        self._block = block
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release. Raises LeaseLost if it was lost in the block, which was cancelled then."""
        block, self._block = self._block, None
        try:
            if block is not None:
                await block.__aexit__(kind, error, trace)
        finally:
            await self._leave_quietly()

    @property
    def key(self) -> bytes:
        """The own key, b"" when nothing is held or waited for."""
        return self._key

    @property
    def token(self) -> int:
        """The fencing token, 0 when nothing is held or waited for."""
        return self._token

    @property
    def is_held(self) -> bool:
        """Whether it was acquired and its lease is not lost, as far as this process knows."""
        return self._is_held and self._lease is not None and not self._lease.is_lost

    @property
    def lease(self) -> Lease | None:
        """The lease under which it is held or waited for."""
        return self._lease

    # For recipes

    @abstractmethod
    def _new_key(self, lease: Lease) -> bytes:
        """The key to create."""

    @abstractmethod
    async def _create(self, lease: Lease) -> KV:
        """Create `self._key`; called again with the same lease after a lost answer."""

    @abstractmethod
    async def _wait_turn(self, *, can_wait: bool) -> bool:
        """Wait until the own key, `self._key`, is due. Without `can_wait` return whether it is."""

    async def _own(self) -> KV:
        """The own key as it is. Raises LockLost if it is not the one that was created."""
        kv = await self._client.get(self._key)
        if kv is None or kv.create_revision != self._token:
            raise LockLost(f"the key {self._key!r} is gone: its lease has expired, or somebody has deleted it", Code.NOT_FOUND)
        return kv

    async def _acquire(self, timeout: float | None, *, can_wait: bool) -> bool:
        if self._is_taken:
            raise RuntimeError(f"{self._name!r} is held or waited for already by this object")
        self._is_taken = True
        scope = asyncio.timeout(timeout)
        waiting = _Waiting(scope)
        try:
            async with scope:
                self._waiting = waiting
                self._is_held = await self._take_turn(can_wait=can_wait)
        except TimeoutError:
            await self._leave_quietly()
            if not scope.expired():
                raise
        except BaseException:
            await self._leave_quietly()
            raise
        else:
            if not self._is_held:
                await self._leave_quietly()
        finally:
            if not self._is_held:
                self._forget()
            self._waiting = None
            waiting.ended.set()
        return self._is_held

    async def _take_turn(self, *, can_wait: bool) -> bool:
        lease = self._lease = self._given_lease or await self._client.lease(self._ttl_seconds).start()
        async with lease.cancel_on_loss():
            if lease is self._given_lease:  # which would keep alive a key that is created after a cancellation
                await undisturbed(self._enter(lease), unless=lambda: lease.is_lost)
            else:
                await self._enter(lease)
            return await until_known(lambda: self._wait_turn(can_wait=can_wait))

    async def _enter(self, lease: Lease) -> None:
        self._key = self._new_key(lease)
        created = await until_known(lambda: self._create(lease))
        self._key, self._token = created.key, created.create_revision

    async def _leave_quietly(self) -> None:
        """After an error, or at the end of a block: what cannot be released expires with the lease."""
        lease, key, self._is_held = self._lease, self._key, False
        if lease is None:
            return
        if lease.is_lost:
            self._forget()
            return
        try:
            await self._leave(lease)
        except (TercetError, TimeoutError) as error:
            logger.warning("%r is left to expire: %s", key, error or "no member has answered")

    async def _leave(self, lease: Lease) -> None:
        """Delete the own key, at most for the TTL: then it has expired. Until then the object is taken."""
        key, token = self._key, self._token
        self._lease, self._key, self._token = None, b"", 0
        try:
            if lease is not self._given_lease:
                async with asyncio.timeout(lease.ttl_seconds):
                    await until_known(lease.revoke)
            elif token:
                await undisturbed(self._delete(key, token, lease))  # nothing else would end the key
        finally:
            self._is_taken = False

    async def _delete(self, key: bytes, token: int, lease: Lease) -> None:
        client = self._client
        mine = client.create_revision(key) == token
        async with asyncio.timeout(lease.ttl_seconds):
            await until_known(lambda: client.txn([mine], [client.delete_op(key)]))

    def _forget(self) -> None:
        self._lease, self._key, self._token = None, b"", 0
        self._is_taken = False


class _Waiting:
    """A task that waits for its turn. scope: the block that is left when another task ends the waiting."""

    def __init__(self, scope: asyncio.Timeout) -> None:
        self._scope = scope
        self.ended = asyncio.Event()

    async def end(self) -> None:
        """Return when the own key is deleted."""
        if not self._scope.expired():
            self._scope.reschedule(asyncio.get_running_loop().time())
        await self.ended.wait()
