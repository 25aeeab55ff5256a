"""Watches with callbacks, all on one stream."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from tercet.compat.aetcd import exceptions, rtypes
from tercet.compat.endpoint_channel import EndpointChannel
from tercet.compat.watch_channel import Login, WatchChannel
from tercet.compat.watch_stream import WatchStream
from tercet.proto import rpc_pb2

logger = logging.getLogger(__name__)

_FILTERS = {
    None: (),
    rtypes.EventKind.PUT: (rpc_pb2.WatchCreateRequest.NODELETE,),
    rtypes.EventKind.DELETE: (rpc_pb2.WatchCreateRequest.NOPUT,),
}


class WatcherCallback:
    """A watch. The coroutine function `callback` gets each Event, or the exception that ended the watch."""

    def __init__(self, callback: Callable[[Any], Awaitable[object]]) -> None:
        self.callback = callback
        self.watch_id: int | None = None
        self.prev_kv = False
        self.error: Exception | None = None


class Watcher:
    """All watches of a client, on one stream that is open while there are any; they survive its loss."""

    def __init__(
        self, channel: EndpointChannel, timeout: float | None = None, metadata: Any = None, login: Login = None
    ) -> None:
        """timeout: for the creation of a watch, in seconds."""
        self._timeout = timeout
        self._stream = WatchStream(WatchChannel(lambda: [channel], metadata, login), exceptions.RevisionCompactedError)
        self._deliveries: dict[int, asyncio.Task[None]] = {}

    async def add_callback(
        self,
        key: bytes,
        callback: Callable[[Any], Awaitable[object]],
        range_end: bytes | None = None,
        start_revision: int | None = None,
        progress_notify: bool = False,
        kind: rtypes.EventKind | None = None,
        prev_kv: bool = False,
        watch_id: int | None = None,
        fragment: bool = False,
    ) -> WatcherCallback:
        """A new watch. kind: only events of it. `watch_id` and `fragment` have no effect, as in the original.

        Raises TypeError for a kind that is no EventKind, WatchTimeoutError, RevisionCompactedError, RpcError.
        """
        if kind is not None and not isinstance(kind, rtypes.EventKind):
            raise TypeError(f"an instance of EventKind should be provided, not {type(kind)}")
        request = rpc_pb2.WatchCreateRequest(
            key=key,
            range_end=range_end or b"",
            start_revision=start_revision or 0,
            progress_notify=progress_notify,
            filters=_FILTERS[kind],
            prev_kv=prev_kv,
        )
        watch = WatcherCallback(callback)
        watch.prev_kv = prev_kv
        answers: asyncio.Queue[Any] = asyncio.Queue()
        try:
            async with asyncio.timeout(self._timeout):
                watch.watch_id = await self._stream.create(request, answers.put_nowait)
        except TimeoutError as error:
            raise exceptions.WatchTimeoutError from error
        self._deliveries[watch.watch_id] = asyncio.get_running_loop().create_task(_deliver(watch, answers))
        return watch

    async def cancel(self, watch_id: int) -> None:
        """End a watch; an unknown ID is ignored."""
        await self._stream.cancel(watch_id)
        delivery = self._deliveries.pop(watch_id, None)
        if delivery is not None and delivery is not asyncio.current_task():
            delivery.cancel()

    async def shutdown(self) -> None:
        """End all watches. Their callbacks get None."""
        await self._stream.close()
        deliveries, self._deliveries = self._deliveries, {}
        if deliveries:
            await asyncio.wait(deliveries.values(), timeout=1)


async def _deliver(watch: WatcherCallback, answers: asyncio.Queue[Any]) -> None:
    """Call the callback with one event after the other, until the watch ends."""
    while True:
        answer = await answers.get()
        if not isinstance(answer, rpc_pb2.WatchResponse):
            watch.error = answer
            await _call(watch, answer)
            return
        for event in answer.events:
            await _call(watch, rtypes.Event(event.type, event.kv, event.prev_kv if watch.prev_kv else None))


async def _call(watch: WatcherCallback, event_or_error: Any) -> None:
    try:
        await watch.callback(event_or_error)
    except Exception:
        logger.exception("watch callback failed")
