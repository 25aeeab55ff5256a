"""Generated from client/recipes/stm.py by `python -m tercet.client.generate_sync`: do not edit."""

from __future__ import annotations

from collections.abc import Iterable

from tercet.client.facade import Facade
from tercet.client.key_space import Text
from tercet.client.operations import LeaseRef
from tercet.client.recipes.stm import STM, Isolation
from tercet.client.results import KV, Txn


class SyncSTM(Facade[STM]):
    """One run of the function: what it has read and wants to write."""

    def get(self, key: Text) -> bytes | None:
        """The value as the function has written it, or as it was at the revision of the first read; None if it is absent."""
        return self._run(self._inner.get(key))

    def get_kv(self, key: Text) -> KV | None:
        """The key as it was at the revision of the first read. Raises TercetError."""
        return self._run(self._inner.get_kv(key))

    def prefetch(self, keys: Iterable[Text]) -> None:
        """Read several keys with one request. They count as read once the function gets them. Raises TercetError."""
        self._run(self._inner.prefetch(keys))

    def put(self, key: Text, value: Text, *, lease: LeaseRef = 0) -> None:
        """Write a key, if the function returns and nothing has changed."""
        self._call(self._inner.put, key, value, lease=lease)

    def delete(self, key: Text) -> None:
        """Delete a key, if the function returns and nothing has changed."""
        self._call(self._inner.delete, key)

    def commit(self, isolation: Isolation) -> tuple[Txn, dict[bytes, KV | None]]:
        """Returns the transaction, and if it did not succeed the present state of what was read. Raises TercetError."""
        return self._run(self._inner.commit(isolation))
