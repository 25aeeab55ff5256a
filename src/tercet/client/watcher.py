"""A watch with typed results.

async with client.watch("config/", prefix=True) as watch:    # every change from here on is seen
    async for batch in watch:                                 # one batch for each revision
        for event in batch: ...

async for event in client.watch("config/", prefix=True).events(): ...
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from types import TracebackType
from typing import Self

from tercet.client.grouped import Grouped
from tercet.client.key_space import KeySpace
from tercet.client.watch import Watch, WatchStream
from tercet.client.watch_events import Event, WatchBatch, batches, end_of_watch
from tercet.proto import rpc_pb2

_BATCHES_AT_ONCE = 128
"""Made at a time: enough that a thread of a synchronous client seldom turns to the loop's, too few for garbage collections."""


class Watcher:
    """An iterator of WatchBatch. It starts with the first iteration, or with its block; it ends by `close` or an exception.

    A lost connection is no end: the watch continues on another member, with the revision after the last that arrived.
    Raises Compacted: the next revision is compacted, changes are lost (see AsyncClient.watch_list). Rewound: the cluster was
    restored from a backup. PermissionDenied, Unauthenticated, ClientClosed.
    """

    def __init__(
        self,
        stream: WatchStream,
        keys: KeySpace,
        request: rpc_pb2.WatchCreateRequest,
        *,
        progress: bool,
        responses_max: int,
        bytes_max: int,
    ) -> None:
        """progress: yield batches without events too."""
        self._stream = stream
        self._keys = keys
        self._request = request
        self._progress = progress
        self._bounds = (responses_max, bytes_max)
        self._watch: Watch | None = None
        self._arriving: Iterator[WatchBatch] = iter(())  # used only in the loop's thread
        self._batches: deque[WatchBatch] = deque()
        self._is_closed = False

    def __repr__(self) -> str:
        bounds = [key for key in (self._request.key, self._request.range_end) if key]
        state = "closed" if self._is_closed else "open" if self._watch else "not started"
        return f"<Watcher {' to '.join(map(repr, bounds))}, {state}>"

    async def __aenter__(self) -> Self:
        """Return when the server has created the watch."""
        await self._started().created()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> WatchBatch:
        while True:
            if not self._batches:
                if self._is_closed:
                    raise StopAsyncIteration
                await self._arrive()
            try:
                return self._batches.popleft()
            except IndexError:  # a response without events, or another thread was first
                continue

    async def _arrive(self) -> None:
        """Make batches of the response that is being taken, or wait for the next one."""
        self._batches.extend(islice(self._arriving, _BATCHES_AT_ONCE))
        if self._batches:
            return
        watch = self._started()
        response = await watch.__anext__()
        if response.canceled:
            self._is_closed = True
            raise end_of_watch(response, watch.error)
        if response.events or self._progress:
            self._arriving = batches(response, self._keys, prev_kv=self._request.prev_kv)
            self._batches.extend(islice(self._arriving, _BATCHES_AT_ONCE))

    def take_now(self) -> WatchBatch:
        """The next batch. Any thread may call this. Raises IndexError if none has arrived."""
        return self._batches.popleft()

    def events(self) -> AsyncIterator[Event]:
        """The events of all batches, one by one."""
        return _Events(self)

    async def request_progress(self) -> None:
        """Ask for a batch without events. It arrives once all changes up to its revision have, with `progress=True`."""
        self._started()
        await self._stream.request_progress()

    @property
    def resumes(self) -> int:
        """How often the watch has continued on a new stream."""
        return 0 if self._watch is None else self._watch.resumes

    def close(self) -> None:
        """Cancel the watch; an iteration ends. Idempotent."""
        self._is_closed = True
        self._arriving = iter(())
        self._batches.clear()
        if self._watch is not None:
            self._watch.close()

    def _started(self) -> Watch:
        if self._watch is None:
            responses_max, bytes_max = self._bounds
            self._watch = self._stream.add(self._request, responses_max=responses_max, bytes_max=bytes_max)
        return self._watch


class _Events(Grouped[Event]):
    """Holds the events of one batch; the others stay in the watcher, where `close` drops them."""

    def __init__(self, watcher: Watcher) -> None:
        super().__init__()
        self._watcher = watcher
        self._is_closed = False

    async def __anext__(self) -> Event:
        # As Grouped does it, without a generator: two calls less for each event of a revision of its own.
        while not self._is_closed:
            if not self._arrived:
                self._arrived.extend((await self._watcher.__anext__()).events)
            try:
                return self._arrived.popleft()
            except IndexError:  # progress, or another thread was first
                continue
        raise StopAsyncIteration

    def take_now(self) -> Event:
        if not self._arrived:
            self._arrived.extend(self._watcher.take_now().events)
        return super().take_now()

    async def aclose(self) -> None:
        self._is_closed = True
        await super().aclose()
