"""A number that processes change together.

    NAME        the number in decimal; absent: 0

Not among etcd's recipes; kazoo has it.
"""

from __future__ import annotations

from tercet.client.core_calls import CoreCalls
from tercet.client.errors import InvalidArgument
from tercet.client.key_space import Text, to_bytes
from tercet.client.results import KV
from tercet.errors import Code


class Counter:
    """A whole number of any size."""

    def __init__(self, client: CoreCalls, name: Text) -> None:
        self._client = client
        self._key = to_bytes(name)

    async def value(self) -> int:
        """Raises InvalidArgument if the key holds no number, TercetError."""
        return self._number(await self._client.get(self._key))

    async def add(self, delta: int = 1) -> int:
        """Add, and return the sum. Raises TercetError, Indeterminate if it may or may not be added."""
        client = self._client
        while True:
            kv = await client.get(self._key)
            result = self._number(kv) + delta
            unchanged = client.mod_revision(self._key) == (kv.mod_revision if kv else 0)
            if await client.txn([unchanged], [client.put_op(self._key, str(result))]):
                return result

    def _number(self, kv: KV | None) -> int:
        try:
            return int(kv.value) if kv else 0
        except ValueError as error:
            raise InvalidArgument(f"the counter {self._key!r} holds no number", Code.INVALID_ARGUMENT) from error
