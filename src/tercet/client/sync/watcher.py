"""Generated from client/watcher.py by `python -m tercet.client.generate_sync`: do not edit."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from tercet.client.facade import Facade, Items
from tercet.client.watch_events import Event, WatchBatch
from tercet.client.watcher import Watcher


class SyncWatcher(Facade[Watcher]):
    """An iterator of WatchBatch. It starts with the first iteration, or with its block; it ends by `close` or an exception.

    A lost connection is no end: the watch continues on another member, with the revision after the last that arrived.
    Raises Compacted: the next revision is compacted, changes are lost (see Client.watch_list). Rewound: the cluster was
    restored from a backup. PermissionDenied, Unauthenticated, ClientClosed.
    """

    def __repr__(self) -> str:
        return self._call(self._inner.__repr__)

    def __enter__(self) -> Self:
        """Return when the server has created the watch."""
        self._run(self._inner.__aenter__())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._run(self._inner.__aexit__(kind, error, trace))

    def __iter__(self) -> SyncWatcher:
        return self

    def __next__(self) -> WatchBatch:
        return self._next_of(self._inner)

    def events(self) -> Items[Event]:
        """The events of all batches, one by one."""
        return self._iterate(self._inner.events())

    def request_progress(self) -> None:
        """Ask for a batch without events. It arrives once all changes up to its revision have, with `progress=True`."""
        self._run(self._inner.request_progress())

    @property
    def resumes(self) -> int:
        """How often the watch has continued on a new stream."""
        return self._inner.resumes

    def close(self) -> None:
        """Cancel the watch; an iteration ends. Idempotent."""
        self._call(self._inner.close)
