"""Watches: streams of the changes of a key range, resumed without loss after a lost connection.

    async with WatchStream(client) as stream:
        watch = await stream.watch(rpc_pb2.WatchCreateRequest(key=b"a", start_revision=5))
        async for response in watch:          # ends when the watch is cancelled; the last response says why
            ...

All watches of a WatchStream share one gRPC stream. When it breaks, it is opened again, on another member if necessary, and each
watch continues with the revision after the last that it delivered: no event is lost, none arrives twice.
Source: etcd's client/v3/watch.go.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING

from tercet.client import methods
from tercet.errors import Code, StatusError
from tercet.proto import rpc_pb2
from tercet.rpc import ClientStream

if TYPE_CHECKING:
    from tercet.client.cluster_channel import ClusterChannel

REQUIRE_LEADER = (("hasleader", "true"),)
"""Metadata with which a member without a leader ends the stream, so that the client turns to another one."""
_PROGRESS = rpc_pb2.WatchRequest(progress_request=rpc_pb2.WatchProgressRequest()).SerializeToString()
_RESUME_PAUSE_SECONDS = 0.1
_RESUME_PAUSE_SECONDS_MAX = 1.0


class Watch:
    """One watch. Iterate over its responses; a response with `canceled` is the last."""

    def __init__(self, request: rpc_pb2.WatchCreateRequest) -> None:
        self._request = rpc_pb2.WatchCreateRequest()
        self._request.CopyFrom(request)
        self._responses: asyncio.Queue[rpc_pb2.WatchResponse] = asyncio.Queue()
        self._ended = False

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> rpc_pb2.WatchResponse:
        if self._ended:
            raise StopAsyncIteration
        response = await self._responses.get()
        self._ended = response.canceled
        return response

    def resume_request(self) -> rpc_pb2.WatchRequest:
        """The request that creates the watch, from the first revision not delivered yet."""
        return rpc_pb2.WatchRequest(create_request=self._request)

    def deliver(self, response: rpc_pb2.WatchResponse) -> None:
        if response.events:
            self._request.start_revision = response.events[-1].kv.mod_revision + 1
        elif not response.canceled and self._request.start_revision <= response.header.revision:
            self._request.start_revision = (
                response.header.revision + 1
            )  # a progress notification, or a watch of what is to come
        self._responses.put_nowait(response)

    def created(self, response: rpc_pb2.WatchResponse) -> None:
        """A watch of the present starts after the revision at which the member created it."""
        if self._request.start_revision == 0:
            self._request.start_revision = response.header.revision + 1


class WatchStream:
    """The watches of one gRPC stream."""

    def __init__(self, client: ClusterChannel) -> None:
        self._client = client
        self._watches: dict[int, Watch] = {}
        self._unanswered: deque[Watch] = deque()  # created in this order
        self._stream: ClientStream | None = None
        self._pump: asyncio.Task[None] | None = None
        self._progress_is_due = False  # requested before the stream was open

    async def __aenter__(self) -> WatchStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.wait((self._pump,))

    async def watch(self, request: rpc_pb2.WatchCreateRequest) -> Watch:
        """Add a watch. A refusal by the server arrives as a cancelled response."""
        watch = Watch(request)
        self._unanswered.append(watch)
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._run())
        elif self._stream is not None:
            await self._stream.send(watch.resume_request().SerializeToString())
        return watch

    async def request_progress(self) -> None:
        """Ask for the revision up to which all watches of this stream have been delivered; it arrives as a response."""
        if self._stream is None:
            self._progress_is_due = True
        else:
            await self._stream.send(_PROGRESS)

    async def _run(self) -> None:
        pause = _RESUME_PAUSE_SECONDS
        while self._watches or self._unanswered:
            try:
                async with await self._client.open_stream(methods.WATCH, metadata=REQUIRE_LEADER) as stream:
                    await self._create_all(stream)
                    self._stream = stream
                    async for message in stream:
                        pause = _RESUME_PAUSE_SECONDS
                        self._dispatch(methods.WATCH.decode(message))
                        if not self._watches and not self._unanswered:
                            return
            except StatusError as error:
                if error.code not in (Code.UNAVAILABLE, Code.INTERNAL, Code.DEADLINE_EXCEEDED):
                    self._fail(error)
                    return
            finally:
                self._stream = None
            await asyncio.sleep(pause)
            pause = min(pause * 2, _RESUME_PAUSE_SECONDS_MAX)

    async def _create_all(self, stream: ClientStream) -> None:
        """Create all watches on a new stream, those that were running first."""
        self._unanswered = deque((*self._watches.values(), *self._unanswered))
        self._watches = {}
        for watch in tuple(self._unanswered):
            await stream.send(watch.resume_request().SerializeToString())
        if self._progress_is_due:
            self._progress_is_due = False
            await stream.send(_PROGRESS)

    def _dispatch(self, response: rpc_pb2.WatchResponse) -> None:
        if response.created:
            watch = self._unanswered.popleft()
            if response.canceled:
                watch.deliver(response)
                return
            watch.created(response)
            self._watches[response.watch_id] = watch
            return
        if response.watch_id == -1 and not response.canceled:  # the answer to a progress request, for all watches
            for watch in self._watches.values():
                watch.deliver(response)
            return
        found = self._watches.pop(response.watch_id, None) if response.canceled else self._watches.get(response.watch_id)
        if found is not None:
            found.deliver(response)

    def _fail(self, error: StatusError) -> None:
        """End all watches with an error of the stream."""
        for watch in (*self._watches.values(), *self._unanswered):
            watch.deliver(rpc_pb2.WatchResponse(canceled=True, cancel_reason=error.message))
        self._watches = {}
        self._unanswered.clear()
