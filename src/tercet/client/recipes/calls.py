"""The recipes as methods of a client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from tercet.client.core_calls import CoreCalls
from tercet.client.key_space import Text
from tercet.client.lease import Lease
from tercet.client.recipes.barrier import Barrier, DoubleBarrier
from tercet.client.recipes.cache import Cache
from tercet.client.recipes.counter import Counter
from tercet.client.recipes.election import Election
from tercet.client.recipes.lock import Lock
from tercet.client.recipes.partitioner import Partitioner
from tercet.client.recipes.party import Party
from tercet.client.recipes.queue import PriorityQueue, Queue
from tercet.client.recipes.rw_lock import RWLock
from tercet.client.recipes.semaphore import Semaphore
from tercet.client.recipes.stm import STM, Attempts, Isolation, run_stm

Result = TypeVar("Result")
TTL_SECONDS = 60
"""As etcd's sessions."""


class RecipeCalls(CoreCalls):
    """No method makes a request by itself.

    ttl_seconds: for how long what is held outlives this process if it dies.
    lease: one that the caller keeps alive, instead of a lease for each holding.
    """

    def lock(self, name: Text, *, ttl_seconds: int = TTL_SECONDS, lease: Lease | None = None) -> Lock:
        """A fair lock with a fencing token."""
        return Lock(self, name, ttl_seconds=ttl_seconds, lease=lease)

    def rw_lock(self, name: Text, *, ttl_seconds: int = TTL_SECONDS, lease: Lease | None = None) -> RWLock:
        """A lock for many readers or one writer."""
        return RWLock(self, name, ttl_seconds=ttl_seconds, lease=lease)

    def semaphore(self, name: Text, permits: int, *, ttl_seconds: int = TTL_SECONDS, lease: Lease | None = None) -> Semaphore:
        """A lock that `permits` holders share."""
        return Semaphore(self, name, permits, ttl_seconds=ttl_seconds, lease=lease)

    def election(self, name: Text, *, ttl_seconds: int = TTL_SECONDS, lease: Lease | None = None) -> Election:
        """One leader among the processes that campaign."""
        return Election(self, name, ttl_seconds=ttl_seconds, lease=lease)

    def party(self, name: Text, *, ttl_seconds: int = TTL_SECONDS) -> Party:
        """A group whose members know each other."""
        return Party(self, name, ttl_seconds=ttl_seconds)

    def barrier(self, name: Text) -> Barrier:
        """A key that others wait for to go."""
        return Barrier(self, name)

    def double_barrier(self, name: Text, count: int, *, ttl_seconds: int = TTL_SECONDS) -> DoubleBarrier:
        """`count` processes start and end together."""
        return DoubleBarrier(self, name, count, ttl_seconds=ttl_seconds)

    def queue(self, name: Text) -> Queue:
        """First in, first out; each item goes to one consumer."""
        return Queue(self, name)

    def priority_queue(self, name: Text) -> PriorityQueue:
        """A queue in the order of priorities."""
        return PriorityQueue(self, name)

    def counter(self, name: Text) -> Counter:
        """A number that processes change together."""
        return Counter(self, name)

    def partitioner(self, name: Text, items: Iterable[Text], *, ttl_seconds: int = TTL_SECONDS) -> Partitioner:
        """Divides items among processes."""
        return Partitioner(self, name, items, ttl_seconds=ttl_seconds)

    def cache(self, prefix: Text) -> Cache:
        """A local copy of the keys that begin with `prefix`, kept current."""
        return Cache(self, prefix)

    async def stm(
        self,
        function: Callable[[STM], Awaitable[Result]],
        *,
        isolation: Isolation = "snapshot",
        prefetch: Iterable[Text] = (),
    ) -> Result:
        """Run `function` as one transaction over what it reads and writes, again until nothing has interfered.

        isolation: "snapshot" or "serializable" (see STM). prefetch: keys to read with one request before each run.
        Returns what the function returned. Raises its exceptions, TercetError, and Indeterminate if it may have happened.
        """
        return await run_stm(Attempts(self, isolation, prefetch), function)
