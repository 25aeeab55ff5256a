"""Generated from client/recipes/cache.py by `python -m tercet.client.generate_sync`: do not edit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Self

from tercet.client.facade import Facade, Items
from tercet.client.key_space import Text
from tercet.client.recipes.cache import Cache
from tercet.client.results import KV
from tercet.client.watch_list import ListBatch


class SyncCache(Mapping[Text, KV], Facade[Cache]):
    """Keys to KV, readable like a dict. The order is that in which keys arrived."""

    def __enter__(self) -> Self:
        """Return when the copy is complete. Raises TercetError."""
        self._run(self._inner.__aenter__())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._run(self._inner.__aexit__(kind, error, trace))

    def __getitem__(self, key: Text) -> KV:
        return self._call(self._inner.__getitem__, key)

    def __contains__(self, key: object) -> bool:
        return self._call(self._inner.__contains__, key)

    def __iter__(self) -> Iterator[bytes]:
        return self._call(self._inner.__iter__)

    def __len__(self) -> int:
        return self._call(self._inner.__len__)

    @property
    def revision(self) -> int:
        """Every change up to and including this revision is in the copy."""
        return self._inner.revision

    def on_change(self, callback: Callable[[ListBatch], object]) -> None:
        """Call `callback` in the event loop after each batch of changes has been applied. It must not block.

        What it raises is logged.
        """
        self._call(self._inner.on_change, callback)

    def changes(self) -> Items[int]:
        """Yield the revision of the copy whenever a key has changed; what comes while the consumer is busy counts as one."""
        return self._iterate(self._inner.changes())

    def sync(self) -> None:
        """Wait until the copy includes every write acknowledged before this call. Raises TercetError."""
        self._run(self._inner.sync())
