"""A group whose members know each other: who is alive, under which value.

    NAME/LEASE        lease ID in hexadecimal; the value is the member's own, such as its address

Not among etcd's recipes; Apache Curator and kazoo call it a group or a party.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from tercet.client.core_calls import CoreCalls
from tercet.client.key_space import Text, to_bytes
from tercet.client.lease import Lease
from tercet.client.recipes.repeating import until_known
from tercet.client.results import KV


class Party:
    """The members of a group. `join` adds this process."""

    def __init__(self, client: CoreCalls, name: Text, *, ttl_seconds: int) -> None:
        self._client = client
        self._prefix = to_bytes(name) + b"/"
        self._ttl_seconds = ttl_seconds

    def join(self, value: Text = b"") -> PartyMember:
        """A block in which this process is a member; it is cancelled if the lease is lost."""
        return PartyMember(self._client, self._prefix, to_bytes(value), self._client.lease(self._ttl_seconds))

    async def members(self) -> tuple[KV, ...]:
        """In the order in which they joined. Raises TercetError."""
        return (await self._client.get_prefix(self._prefix, sort_by="create_revision")).kvs

    async def observe(self) -> AsyncIterator[tuple[KV, ...]]:
        """The members now, and again after each change. Raises TercetError."""
        members: dict[bytes, KV] = {}
        async for batch in self._client.watch_list(self._prefix):
            for event in batch.events:
                if event.is_delete:
                    members.pop(event.key, None)
                else:
                    members[event.key] = event.kv
            yield tuple(sorted(members.values(), key=lambda kv: kv.create_revision))


class PartyMember:
    """A membership, as the block of `Party.join`."""

    def __init__(self, client: CoreCalls, prefix: bytes, value: bytes, lease: Lease) -> None:
        self._client = client
        self._prefix = prefix
        self._value = value
        self._lease = lease

    @property
    def lease(self) -> Lease:
        return self._lease

    @property
    def key(self) -> bytes:
        return self._prefix + b"%x" % self._lease.id

    async def __aenter__(self) -> Self:
        await self._lease.__aenter__()
        try:
            await until_known(lambda: self.set_value(self._value))  # until the lease is lost
        except BaseException as error:
            await self._lease.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._lease.__aexit__(kind, error, trace)

    async def set_value(self, value: Text) -> None:
        """Replace the member's value. Raises LeaseNotFound if the membership has ended, TercetError."""
        await self._client.put(self.key, value, lease=self._lease)
