"""Watches with callbacks.

Responses arrive on the process's event loop; a thread of the watcher calls the callbacks, which may block and may call the
client.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

from tercet.compat.blocking_channel import BlockingChannel
from tercet.compat.endpoint_channel import EndpointChannel
from tercet.compat.etcd3 import events, exceptions
from tercet.compat.transactions import to_bytes
from tercet.compat.watch_channel import Login, WatchChannel
from tercet.compat.watch_stream import WatchStream
from tercet.proto import rpc_pb2

logger = logging.getLogger(__name__)

Callback = Callable[[Any], object]


class WatchResponse:
    """The header and the events of one response; no events in a progress notification."""

    def __init__(self, header: Any, events: list[events.Event]) -> None:
        self.header = header
        self.events = events


class Watch:
    """A watch of a client."""

    def __init__(self, watch_id: int, iterator: Any = None, etcd_client: Any = None) -> None:
        self.watch_id = watch_id
        self.etcd_client = etcd_client
        self.iterator = iterator

    def cancel(self) -> None:
        """End the watch."""
        self.etcd_client.cancel_watch(self.watch_id)


class Watcher:
    """All watches of a client, on one stream that is open while there are any; they survive its loss."""

    def __init__(
        self,
        channel: BlockingChannel,
        timeout: float | None = None,
        call_credentials: Any = None,
        metadata: Any = None,
        login: Login = None,
        channels: Callable[[], Sequence[BlockingChannel]] | None = None,
    ) -> None:
        """timeout: for the creation of a watch, in seconds. channels: where a lost stream may be opened again."""
        self.timeout = timeout
        self._channel = channel
        self._channels = channels or (lambda: (channel,))
        self._metadata = metadata
        self._login = login
        self._lock = threading.Lock()
        self._stream: tuple[Any, WatchStream] | None = None
        self._calls: queue.SimpleQueue[tuple[Callback, Any] | None] | None = None

    def add_callback(
        self,
        key: Any,
        callback: Callback,
        range_end: Any = None,
        start_revision: int | None = None,
        progress_notify: bool = False,
        filters: Any = None,
        prev_kv: bool = False,
    ) -> int:
        """The ID of a new watch. `callback` gets each WatchResponse, or the exception that ended the watch.

        Raises WatchTimedOut, RevisionCompactedError, RpcError.
        """
        request = rpc_pb2.WatchCreateRequest(
            key=to_bytes(key),
            range_end=to_bytes(range_end or b""),
            start_revision=start_revision or 0,
            progress_notify=progress_notify,
            filters=filters,
            prev_kv=prev_kv,
        )
        (thread, stream), calls = self._running()

        def on_answer(answer: rpc_pb2.WatchResponse | Exception | None) -> None:
            calls.put((callback, answer))

        async def created() -> int:
            async with asyncio.timeout(self.timeout):
                return await stream.create(request, on_answer)

        try:
            return int(thread.run(created(), blocks_loops=True))
        except TimeoutError as error:
            raise exceptions.WatchTimedOut from error

    def cancel(self, watch_id: int) -> None:
        """End a watch; an unknown ID is ignored."""
        if self._stream is not None:
            thread, stream = self._stream
            thread.run(stream.cancel(watch_id), blocks_loops=True)

    def close(self) -> None:
        """End all watches. Their callbacks get None."""
        with self._lock:
            running, self._stream = self._stream, None
            calls, self._calls = self._calls, None
        if running is not None and calls is not None:
            thread, stream = running
            thread.run(stream.close(), blocks_loops=True)
            calls.put(None)

    def _running(self) -> tuple[tuple[Any, WatchStream], queue.SimpleQueue[tuple[Callback, Any] | None]]:
        with self._lock:
            if self._stream is None or self._calls is None:
                thread, _ = self._channel.on_loop()
                channel = WatchChannel(self._channels_on_loop, self._metadata, self._login)
                self._stream = thread, WatchStream(channel, exceptions.RevisionCompactedError)
                self._calls = queue.SimpleQueue()
                name = f"etcd3_watch_{id(self):x}"
                threading.Thread(target=_call_back, args=(self._calls,), name=name, daemon=True).start()
            return self._stream, self._calls

    def _channels_on_loop(self) -> list[EndpointChannel]:
        return [channel.on_loop()[1] for channel in self._channels()]


def _call_back(calls: queue.SimpleQueue[tuple[Callback, Any] | None]) -> None:
    """The watcher's thread."""
    while (call := calls.get()) is not None:
        callback, answer = call
        if isinstance(answer, rpc_pb2.WatchResponse):
            answer = WatchResponse(answer.header, [events.new_event(event) for event in answer.events])
        try:
            callback(answer)
        except Exception:
            logger.exception("Watch callback failed")
