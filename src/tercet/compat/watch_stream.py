"""The watches of one client on one gRPC stream, with its responses and errors handed to callbacks.

Neither client resumes a watch: when the stream breaks, every callback gets the error, and the next watch opens a new stream.
A program that wants its watches to survive uses `tercet.Client`.

The server answers create requests in their order, so an answer belongs to the oldest request without one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from tercet.client import methods
from tercet.compat.endpoint_channel import EndpointChannel, Metadata
from tercet.compat.grpc_errors import rpc_error
from tercet.errors import Code, StatusError
from tercet.proto import rpc_pb2
from tercet.rpc import ClientStream

OnAnswer = Callable[[rpc_pb2.WatchResponse | Exception | None], object]
"""Called on the event loop with each response, or with the error that ended the stream; None: the client was closed."""


class WatchStream:
    """compacted: makes the exception for a watch of compacted revisions."""

    def __init__(self, channel: EndpointChannel, metadata: Metadata, compacted: Callable[[int], Exception]) -> None:
        self._channel = channel
        self._metadata = metadata
        self._compacted = compacted
        self._stream: ClientStream | None = None
        self._opening: asyncio.Lock | None = None
        self._reader: asyncio.Task[None] | None = None
        self._creating: deque[tuple[asyncio.Future[int], OnAnswer]] = deque()
        self._running: dict[int, OnAnswer] = {}

    async def create(self, request: rpc_pb2.WatchCreateRequest, on_answer: OnAnswer) -> int:
        """The ID of a new watch. Raises RpcError, or what `compacted` makes."""
        stream = await self._opened()
        created: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._creating.append((created, on_answer))
        try:
            await stream.send(rpc_pb2.WatchRequest(create_request=request).SerializeToString())
        except StatusError as error:
            self._end(rpc_error(error.code, error.message))
        return await created  # if this is cancelled, `_created` cancels the watch

    async def cancel(self, watch_id: int) -> bool:
        """End a watch: its callback is not called any more. Returns whether there was one."""
        if self._running.pop(watch_id, None) is None:
            return False
        self._send_cancel(watch_id)
        return True

    async def close(self) -> None:
        """End the stream; the callbacks get None."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.cancel()
            await asyncio.wait((reader,))
        self._end(None)

    async def _opened(self) -> ClientStream:
        if self._opening is None:
            self._opening = asyncio.Lock()
        async with self._opening:
            if self._stream is None:
                self._stream = await self._channel.open(methods.WATCH.path, None, self._metadata)
                self._reader = asyncio.get_running_loop().create_task(self._read(self._stream))
            return self._stream

    async def _read(self, stream: ClientStream) -> None:
        error = rpc_error(Code.UNAVAILABLE, "the server ended the stream")
        try:
            async with stream:
                async for message in stream:
                    self._dispatch(rpc_pb2.WatchResponse.FromString(message))
        except StatusError as cause:
            error = rpc_error(cause.code, cause.message)
        if self._stream is stream:
            self._end(error)

    def _dispatch(self, response: rpc_pb2.WatchResponse) -> None:
        if response.created:
            self._created(response)
            return
        on_answer = self._running.get(response.watch_id)
        if on_answer is None:
            return  # cancelled
        if response.compact_revision:
            del self._running[response.watch_id]
            on_answer(self._compacted(response.compact_revision))
        elif response.canceled:
            del self._running[response.watch_id]
            on_answer(rpc_error(Code.CANCELLED, response.cancel_reason))
        else:
            on_answer(response)

    def _created(self, response: rpc_pb2.WatchResponse) -> None:
        created, on_answer = self._creating.popleft()
        if response.canceled and not created.done():
            compacted = self._compacted(response.compact_revision) if response.compact_revision else None
            created.set_exception(compacted or rpc_error(Code.CANCELLED, response.cancel_reason))
        elif created.done():
            self._send_cancel(response.watch_id)
        else:
            self._running[response.watch_id] = on_answer
            created.set_result(response.watch_id)

    def _send_cancel(self, watch_id: int) -> None:
        request = rpc_pb2.WatchRequest(cancel_request=rpc_pb2.WatchCancelRequest(watch_id=watch_id))
        try:
            if self._stream is not None:
                self._stream.send_now(request.SerializeToString())
        except StatusError:
            pass  # the reader gets the error of the stream

    def _end(self, error: Exception | None) -> None:
        self._stream = None
        creating, self._creating = self._creating, deque()
        running, self._running = self._running, {}
        for created, _ in creating:
            if not created.done():
                created.set_exception(error or rpc_error(Code.CANCELLED, "the client is closed"))
        for on_answer in running.values():
            on_answer(error)
