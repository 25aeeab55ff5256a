"""Generated from client/recipes/calls.py by `python -m tercet.client.generate_sync`: do not edit."""

from __future__ import annotations

from collections.abc import Iterable

from tercet.client.facade_stm import StmFacade
from tercet.client.key_space import Text
from tercet.client.recipes.calls import TTL_SECONDS
from tercet.client.sync.core_calls import SyncCoreCalls
from tercet.client.sync.lease import SyncLease
from tercet.client.sync.recipes.barrier import SyncBarrier, SyncDoubleBarrier
from tercet.client.sync.recipes.cache import SyncCache
from tercet.client.sync.recipes.counter import SyncCounter
from tercet.client.sync.recipes.election import SyncElection
from tercet.client.sync.recipes.lock import SyncLock
from tercet.client.sync.recipes.partitioner import SyncPartitioner
from tercet.client.sync.recipes.party import SyncParty
from tercet.client.sync.recipes.queue import SyncPriorityQueue, SyncQueue
from tercet.client.sync.recipes.rw_lock import SyncRWLock
from tercet.client.sync.recipes.semaphore import SyncSemaphore


class SyncRecipeCalls(SyncCoreCalls, StmFacade):
    """No method makes a request by itself.

    ttl_seconds: for how long what is held outlives this process if it dies.
    lease: one that the caller keeps alive, instead of a lease for each holding.
    """

    def lock(self, name: Text, *, ttl_seconds: int = TTL_SECONDS, lease: SyncLease | None = None) -> SyncLock:
        """A fair lock with a fencing token."""
        made = self._call(self._inner.lock, name, ttl_seconds=ttl_seconds, lease=lease._inner if lease is not None else None)
        return SyncLock._of(made, self._thread)

    def rw_lock(self, name: Text, *, ttl_seconds: int = TTL_SECONDS, lease: SyncLease | None = None) -> SyncRWLock:
        """A lock for many readers or one writer."""
        made = self._call(self._inner.rw_lock, name, ttl_seconds=ttl_seconds, lease=lease._inner if lease is not None else None)
        return SyncRWLock._of(made, self._thread)

    def semaphore(
        self, name: Text, permits: int, *, ttl_seconds: int = TTL_SECONDS, lease: SyncLease | None = None
    ) -> SyncSemaphore:
        """A lock that `permits` holders share."""
        made = self._call(
            self._inner.semaphore, name, permits, ttl_seconds=ttl_seconds, lease=lease._inner if lease is not None else None
        )
        return SyncSemaphore._of(made, self._thread)

    def election(self, name: Text, *, ttl_seconds: int = TTL_SECONDS, lease: SyncLease | None = None) -> SyncElection:
        """One leader among the processes that campaign."""
        made = self._call(
            self._inner.election, name, ttl_seconds=ttl_seconds, lease=lease._inner if lease is not None else None
        )
        return SyncElection._of(made, self._thread)

    def party(self, name: Text, *, ttl_seconds: int = TTL_SECONDS) -> SyncParty:
        """A group whose members know each other."""
        made = self._call(self._inner.party, name, ttl_seconds=ttl_seconds)
        return SyncParty._of(made, self._thread)

    def barrier(self, name: Text) -> SyncBarrier:
        """A key that others wait for to go."""
        made = self._call(self._inner.barrier, name)
        return SyncBarrier._of(made, self._thread)

    def double_barrier(self, name: Text, count: int, *, ttl_seconds: int = TTL_SECONDS) -> SyncDoubleBarrier:
        """`count` processes start and end together."""
        made = self._call(self._inner.double_barrier, name, count, ttl_seconds=ttl_seconds)
        return SyncDoubleBarrier._of(made, self._thread)

    def queue(self, name: Text) -> SyncQueue:
        """First in, first out; each item goes to one consumer."""
        made = self._call(self._inner.queue, name)
        return SyncQueue._of(made, self._thread)

    def priority_queue(self, name: Text) -> SyncPriorityQueue:
        """A queue in the order of priorities."""
        made = self._call(self._inner.priority_queue, name)
        return SyncPriorityQueue._of(made, self._thread)

    def counter(self, name: Text) -> SyncCounter:
        """A number that processes change together."""
        made = self._call(self._inner.counter, name)
        return SyncCounter._of(made, self._thread)

    def partitioner(self, name: Text, items: Iterable[Text], *, ttl_seconds: int = TTL_SECONDS) -> SyncPartitioner:
        """Divides items among processes."""
        made = self._call(self._inner.partitioner, name, items, ttl_seconds=ttl_seconds)
        return SyncPartitioner._of(made, self._thread)

    def cache(self, prefix: Text) -> SyncCache:
        """A local copy of the keys that begin with `prefix`, kept current."""
        made = self._call(self._inner.cache, prefix)
        return SyncCache._of(made, self._thread)
