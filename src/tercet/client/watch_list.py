"""List the keys of a prefix, then follow their changes; after a compaction list them again and compute what was missed.

    {a: 5, b: 6}       known: keys and mod_revisions
    {b: 6, c: 9}       listed after the compaction at revision 9
    delete a, put c    the difference; watching alone would have lost the delete of a

Source: Kubernetes' reflector, which replaces its store in the same case.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Protocol

from tercet.client.errors import Compacted
from tercet.client.key_space import Text, to_bytes
from tercet.client.prefix import prefix_end
from tercet.client.results import KV, Range
from tercet.client.watch_events import Event
from tercet.client.watcher import Watcher
from tercet.proto import kv_pb2


@dataclass(frozen=True, slots=True)
class ListBatch:
    """Changes up to and including `revision`. is_resync: the difference to a list of the keys, not the changes of one revision.

    The first batch is the list itself, also if it is empty. Others without events report progress, where it is asked for.
    """

    revision: int
    events: tuple[Event, ...]
    is_resync: bool

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)


class ListAndWatch(Protocol):
    """The calls of the client that are needed."""

    async def get_range(self, start: Text, end: Text | None = None, *, limit: int = 0, revision: int = 0) -> Range: ...

    def watch(self, key: Text, *, prefix: bool = False, since: int = 0, progress: bool = False) -> Watcher: ...


async def watch_list(client: ListAndWatch, prefix: Text, *, page_keys: int, progress: bool) -> AsyncIterator[ListBatch]:
    """See WatchCalls.watch_list."""
    known: dict[bytes, int] = {}
    while True:
        try:
            kvs, revision = await _list(client, to_bytes(prefix), page_keys)
        except Compacted:
            continue  # between two pages
        yield ListBatch(revision, tuple(_difference(known, kvs, revision)), is_resync=True)
        known = {kv.key: kv.mod_revision for kv in kvs}
        watch = client.watch(prefix, prefix=True, since=revision + 1, progress=progress)
        try:
            async for batch in watch:
                for event in batch.events:
                    _apply(known, event)
                yield ListBatch(batch.revision, batch.events, is_resync=False)
        except Compacted:
            continue
        finally:
            watch.close()


async def _list(client: ListAndWatch, prefix: bytes, page_keys: int) -> tuple[list[KV], int]:
    """All keys at one revision, and the revision. Raises Compacted if it is compacted meanwhile."""
    start, end = prefix, prefix_end(prefix) if prefix else None
    page = await client.get_range(start, end, limit=page_keys)
    revision, kvs = page.header.revision, list(page.kvs)
    while page.more:
        page = await client.get_range(kvs[-1].key + b"\0", end, limit=page_keys, revision=revision)
        kvs += page.kvs
    return kvs, revision


def _difference(known: dict[bytes, int], kvs: list[KV], revision: int) -> Iterator[Event]:
    listed = {kv.key for kv in kvs}
    for key in known:
        if key not in listed:
            raw = kv_pb2.KeyValue(key=key, mod_revision=revision)
            yield Event(True, KV(key, b"", 0, revision, 0, 0, raw), None)
    for kv in kvs:
        if known.get(kv.key) != kv.mod_revision:
            yield Event(False, kv, None)


def _apply(known: dict[bytes, int], event: Event) -> None:
    if event.is_delete:
        known.pop(event.key, None)
    else:
        known[event.key] = event.kv.mod_revision
