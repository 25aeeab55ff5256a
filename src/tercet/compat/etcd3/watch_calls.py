"""Calls of the Watch service."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

from tercet.client import prefix_end
from tercet.compat.etcd3 import exceptions
from tercet.compat.etcd3.connection import Connection, translated, translated_iterator
from tercet.compat.etcd3.utils import response_to_event_iterator
from tercet.compat.etcd3.watch import WatchResponse
from tercet.compat.transactions import to_bytes

Cancel = Callable[[], None]


class WatchCalls(Connection):
    """Keywords of all watches: range_end, start_revision, progress_notify, filters, prev_kv.

    A watch survives a lost connection, and with `failover` the loss of its endpoint. Its iterator raises RevisionCompactedError
    if the server has compacted what it would have to send.
    """

    @translated
    def add_watch_callback(self, *args: Any, **kwargs: Any) -> int:
        """add_watch_callback(key, callback): the ID of a new watch, for `cancel_watch`.

        callback: called in another thread with each WatchResponse, or with the exception that ended the watch.
        Raises WatchTimedOut if the client has a timeout and the watch is not created in time.
        """
        watch_id: int = self.watcher.add_callback(*args, **kwargs)
        return watch_id

    @translated
    def add_watch_prefix_callback(self, key_prefix: Any, callback: Callable[[Any], object], **kwargs: Any) -> int:
        """As `add_watch_callback`, for all keys with a prefix."""
        return self.add_watch_callback(key_prefix, callback, **_prefix(key_prefix, kwargs))

    @translated
    def watch_response(self, key: Any, **kwargs: Any) -> tuple[Iterator[WatchResponse], Cancel]:
        """(iterator of WatchResponse, cancel)."""
        responses: queue.SimpleQueue[Any] = queue.SimpleQueue()
        watch_id = self.add_watch_callback(key, responses.put, **kwargs)
        canceled = threading.Event()

        def cancel() -> None:
            canceled.set()
            responses.put(None)
            self.cancel_watch(watch_id)

        return self._responses(responses, canceled), cancel

    @translated_iterator
    def _responses(self, responses: queue.SimpleQueue[Any], canceled: threading.Event) -> Iterator[WatchResponse]:
        while not canceled.is_set():
            response = responses.get()
            if response is None or canceled.is_set():
                return
            if isinstance(response, Exception):
                raise response
            yield response

    def watch(self, key: Any, **kwargs: Any) -> tuple[Iterator[Any], Cancel]:
        """(iterator of events, cancel)."""
        responses, cancel = self.watch_response(key, **kwargs)
        return response_to_event_iterator(responses), cancel

    def watch_prefix_response(self, key_prefix: Any, **kwargs: Any) -> tuple[Iterator[WatchResponse], Cancel]:
        """As `watch_response`, for all keys with a prefix."""
        return self.watch_response(key_prefix, **_prefix(key_prefix, kwargs))

    def watch_prefix(self, key_prefix: Any, **kwargs: Any) -> tuple[Iterator[Any], Cancel]:
        """As `watch`, for all keys with a prefix."""
        return self.watch(key_prefix, **_prefix(key_prefix, kwargs))

    @translated
    def watch_once_response(self, key: Any, timeout: float | None = None, **kwargs: Any) -> WatchResponse:
        """The first response. Raises WatchTimedOut after `timeout` seconds."""
        responses: queue.SimpleQueue[Any] = queue.SimpleQueue()
        watch_id = self.add_watch_callback(key, responses.put, **kwargs)
        try:
            response = responses.get(timeout=timeout)
        except queue.Empty as error:
            raise exceptions.WatchTimedOut from error
        finally:
            self.cancel_watch(watch_id)
        if isinstance(response, Exception):
            raise response
        first: WatchResponse = response
        return first

    def watch_once(self, key: Any, timeout: float | None = None, **kwargs: Any) -> Any:
        """The first event. Raises WatchTimedOut after `timeout` seconds."""
        return self.watch_once_response(key, timeout=timeout, **kwargs).events[0]

    def watch_prefix_once_response(self, key_prefix: Any, timeout: float | None = None, **kwargs: Any) -> WatchResponse:
        """As `watch_once_response`, for all keys with a prefix."""
        return self.watch_once_response(key_prefix, timeout=timeout, **_prefix(key_prefix, kwargs))

    def watch_prefix_once(self, key_prefix: Any, timeout: float | None = None, **kwargs: Any) -> Any:
        """As `watch_once`, for all keys with a prefix."""
        return self.watch_once(key_prefix, timeout=timeout, **_prefix(key_prefix, kwargs))

    @translated
    def cancel_watch(self, watch_id: int) -> None:
        """End a watch; an unknown ID is ignored."""
        self.watcher.cancel(watch_id)


def _prefix(key_prefix: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    return {**kwargs, "range_end": prefix_end(to_bytes(key_prefix))}
