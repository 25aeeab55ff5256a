"""Calls to one endpoint from any thread: what grpcio's channel is to its stubs.

The connection lives on the process's loop thread. After a fork the child connects by itself.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

from tercet.client.loop_thread import LoopThread, loop_thread
from tercet.compat.endpoint_channel import EndpointChannel, Metadata


class BlockingChannel:
    """An EndpointChannel whose callables block."""

    def __init__(self, target: str, *, tls: ssl.SSLContext | None = None, options: Iterable[tuple[str, Any]] = ()) -> None:
        self._target = target
        self._tls = tls
        self._given = tuple(options)
        self._lock = threading.Lock()
        self._thread: LoopThread | None = None
        self._channel = EndpointChannel(target, tls=tls, options=self._given)

    def on_loop(self) -> tuple[LoopThread, EndpointChannel]:
        """The loop thread, and the channel that lives on it."""
        thread = loop_thread()
        if thread is not self._thread:
            with self._lock:
                if self._thread is not None and thread is not self._thread:  # of the parent process
                    self._channel = EndpointChannel(self._target, tls=self._tls, options=self._given)
                self._thread = thread
        return thread, self._channel

    def unary_unary(self, path: str, kind: Any) -> Callable[..., Any]:
        """A callable (request, timeout, metadata) that returns the answer. Raises RpcError."""

        def call(request: Any, timeout: float | None = None, metadata: Metadata = None, **_: object) -> Any:
            thread, channel = self.on_loop()
            return kind.FromString(
                thread.run(channel.unary(path, request.SerializeToString(), timeout, metadata), blocks_loops=True)
            )

        return call

    def unary_stream(self, path: str, kind: Any) -> Callable[..., Iterator[Any]]:
        """A callable (request, timeout, metadata) that returns an iterator of answers. Raises RpcError."""

        def call(request: Any, timeout: float | None = None, metadata: Metadata = None, **_: object) -> Iterator[Any]:
            thread, channel = self.on_loop()
            return _blocking(thread, channel.unary_stream(path, kind)(request, timeout, metadata))

        return call

    def stream_stream(self, path: str, kind: Any) -> Callable[..., Iterator[Any]]:
        """A callable (requests, timeout, metadata) that returns an iterator of answers. A thread iterates over the requests."""

        def call(
            requests: Iterable[Any], timeout: float | None = None, metadata: Metadata = None, **_: object
        ) -> Iterator[Any]:
            thread, channel = self.on_loop()
            return _blocking(thread, channel.stream_stream(path, kind)(_pulled(requests), timeout, metadata))

        return call

    def close(self) -> None:
        """End the calls with CANCELLED; a later call connects again."""
        if self._thread is not None:
            thread, channel = self.on_loop()
            thread.run(channel.close(), blocks_loops=True)


def _blocking(thread: LoopThread, answers: AsyncIterator[Any]) -> Iterator[Any]:
    async def following() -> tuple[bool, Any]:
        async for answer in answers:
            return True, answer
        return False, None

    async def end() -> None:
        await answers.aclose()  # type: ignore[attr-defined]

    try:
        while True:
            has_more, answer = thread.run(following(), blocks_loops=True)
            if not has_more:
                return
            yield answer
    finally:
        thread.run(end(), blocks_loops=True)


async def _pulled(requests: Iterable[Any]) -> AsyncIterator[Any]:
    """The elements of an iterator that may block, which runs in a daemon thread, one element ahead."""
    if isinstance(requests, list | tuple):
        for request in requests:
            yield request
        return
    loop = asyncio.get_running_loop()
    ready: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue(maxsize=1)
    is_over = False

    def pull() -> None:
        for request in requests:
            asyncio.run_coroutine_threadsafe(ready.put((request,)), loop).result()
            if is_over:
                return
        asyncio.run_coroutine_threadsafe(ready.put(()), loop)

    threading.Thread(target=pull, name="tercet-requests", daemon=True).start()
    try:
        while taken := await ready.get():
            yield taken[0]
    finally:
        is_over = True
        if not ready.empty():
            ready.get_nowait()  # frees the thread, if it waits
