"""Watches: streams of the changes of a key range, resumed without loss after a lost connection.

    async with WatchStream(channel) as stream:
        watch = await stream.watch(rpc_pb2.WatchCreateRequest(key=b"a", start_revision=5))
        async for response in watch:          # ends when the watch is cancelled; the last response says why
            ...

All watches of a WatchStream share one gRPC stream. When it breaks, it is opened again, on another member if necessary, and each
watch continues with the revision after the last that arrived (watch_state.py, watch_set.py): no event is lost, none arrives
twice. Messages in and out are protobuf's; watcher.py has typed ones.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from tercet.client import methods
from tercet.client.errors import CLIENT_CLOSED
from tercet.client.methods import AnswerT, EncodableT, Method
from tercet.client.watch_set import WatchSet
from tercet.client.watch_state import BYTES_MAX, RESPONSES_MAX, Phase, WatchState
from tercet.errors import Code, StatusError
from tercet.proto import rpc_pb2
from tercet.rpc import Metadata

if TYPE_CHECKING:
    from tercet.client.connections import Stream

logger = logging.getLogger(__name__)

REQUIRE_LEADER = (("hasleader", "true"),)
"""Metadata with which a member without a leader ends the stream, so that the client turns to another one."""
_RESUMABLE = (Code.UNAVAILABLE, Code.INTERNAL, Code.DEADLINE_EXCEEDED)
_STREAM_BROKEN = (*_RESUMABLE, Code.CANCELLED)
"""Proxies reset streams with CANCEL, some at a time limit of their own. A closed client does not open the next stream."""
_PAUSE_SECONDS = 0.025
_PAUSE_SECONDS_MAX = 1.0


class WatchChannel(Protocol):
    """What carries a WatchStream: a ClusterChannel, or what the compat packages connect with. All raise StatusError."""

    async def open_stream(self, method: Method[EncodableT, AnswerT], *, metadata: Metadata = ()) -> Stream: ...

    async def leave_member(self, stream: Stream) -> None: ...

    async def call(self, method: Method[EncodableT, AnswerT], request: EncodableT) -> AnswerT: ...


class Watch:
    """One watch. Iterate over its responses; a response with `canceled` is the last. One consumer at a time."""

    def __init__(self, stream: WatchStream, state: WatchState) -> None:
        self._stream = stream
        self._state = state
        self._loop = asyncio.get_running_loop()
        self._ready = asyncio.Event()
        self._ended = False
        state.on_ready = self._ready.set

    def __del__(self) -> None:
        """A watch that is forgotten, as after a `break` out of its loop, is cancelled."""
        if not self._ended and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stream.remove, self._state)

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> rpc_pb2.WatchResponse:
        if self._ended:
            raise StopAsyncIteration
        state = self._state
        while (response := state.take()) is None:
            await self._woken()
            if self._ended:  # closed by another task
                raise StopAsyncIteration
        self._ended = response.canceled
        if state.phase is Phase.PAUSED:
            self._stream.taken(state)
        return response

    async def created(self) -> bool:
        """Wait until the server has created the watch: changes from now on are delivered. False: it has refused to."""
        while self._state.phase in (Phase.WAITING, Phase.CREATING) and not self._state.resumes and not self._ended:
            await self._woken()
        return self._state.was_created

    async def _woken(self) -> None:
        self._ready.clear()
        await self._ready.wait()

    @property
    def next_revision(self) -> int:
        """The revision after the last that has arrived; 0 until the server has created a watch of the present."""
        return self._state.next_revision

    @property
    def resumes(self) -> int:
        """How often the watch has continued on a new stream."""
        return self._state.resumes

    @property
    def error(self) -> StatusError | None:
        """The error of the stream that ended the watch; None if the server cancelled it."""
        return self._state.error

    def close(self) -> None:
        """Cancel the watch; an iteration that waits ends. Idempotent."""
        self._ended = True
        self._stream.remove(self._state)
        self._ready.set()


class WatchStream:
    """The watches of one gRPC stream. Use it with `async with`, or call `close`; the stream is open while it has watches."""

    def __init__(self, channel: WatchChannel, *, require_leader: bool = True) -> None:
        """require_leader: a member without a leader ends the stream, and the watches continue on another member."""
        self._channel = channel
        self._metadata = REQUIRE_LEADER if require_leader else ()
        self._watches = WatchSet()
        self._stream: Stream | None = None
        self._pump: asyncio.Task[None] | None = None

    async def __aenter__(self) -> WatchStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End all watches: their consumers get a last response with `canceled`. Idempotent."""
        pump, self._pump = self._pump, None
        if pump is not None:
            pump.cancel()
            await asyncio.wait((pump,))
        self._watches.fail(StatusError(Code.CANCELLED, CLIENT_CLOSED))

    async def watch(
        self, request: rpc_pb2.WatchCreateRequest, *, responses_max: int = RESPONSES_MAX, bytes_max: int = BYTES_MAX
    ) -> Watch:
        """Add a watch, as `add` does."""
        return self.add(request, responses_max=responses_max, bytes_max=bytes_max)

    def add(
        self, request: rpc_pb2.WatchCreateRequest, *, responses_max: int = RESPONSES_MAX, bytes_max: int = BYTES_MAX
    ) -> Watch:
        """Add a watch. A refusal by the server arrives as a cancelled response. The bounds are those of its buffer."""
        state = WatchState(request, responses_max=responses_max, bytes_max=bytes_max)
        watch = Watch(self, state)
        self._watches.add(state)
        self._run_pump()
        return watch

    async def request_progress(self) -> None:
        """Ask for the revision up to which all watches of this stream have been delivered; it arrives as a response."""
        self._watches.request_progress()
        self._send()

    def taken(self, state: WatchState) -> None:
        self._watches.taken(state)
        self._send()

    def remove(self, state: WatchState) -> None:
        self._watches.remove(state)
        self._send()
        if not self._watches and self._pump is not None:
            self._pump.cancel()  # closes the stream, and with it the watch
            self._pump = None
            self._detach()

    def _detach(self) -> None:
        self._stream = None
        self._watches.lost()

    def _run_pump(self) -> None:
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._run())
        self._send()

    def _send(self) -> None:
        """Send what is due. Requests are small, and no more than a few a watch, so none waits for the server to read."""
        stream = self._stream
        if stream is None or not self._watches.has_requests:
            return
        try:
            for request in self._watches.take_requests():
                stream.send_now(request.SerializeToString())
        except StatusError:
            return  # the reader of the stream gets the same error, and opens another

    async def _run(self) -> None:
        pause = _PAUSE_SECONDS
        while self._watches:
            try:
                stream = await self._channel.open_stream(methods.WATCH, metadata=self._metadata)
                if await self._follow(stream):
                    pause = _PAUSE_SECONDS
                if self._watches:
                    await self._channel.leave_member(stream)
            except StatusError as error:
                if error.code not in _RESUMABLE:
                    self._watches.fail(error)
                else:
                    logger.info("watches wait for a member: %s", getattr(error, "reason", None) or error.message)
            if self._watches:
                await asyncio.sleep(pause)
                pause = min(pause * 2, _PAUSE_SECONDS_MAX)

    async def _follow(self, stream: Stream) -> bool:
        """Serve the watches on this stream until it ends. Returns whether it has brought anything. Raises StatusError."""
        count = 0
        try:
            async with stream:
                self._stream = stream
                self._watches.opened()
                self._send()
                stream.handle_at_once(partial(self._receive_at_once, stream))
                async for message in stream:
                    await self._receive(message)
                    count += 1
                    if self._watches.must_reopen or not self._watches:
                        break
        except StatusError as error:
            if error.code not in _STREAM_BROKEN:
                raise
        finally:
            if self._stream is stream:
                self._detach()
        return count > 0

    def _receive_at_once(self, stream: Stream, message: bytes) -> bool:
        """Buffer events that arrive while the pump waits, without waking it. False: it is a message for the pump."""
        if stream is not self._stream:  # it is about to be closed
            return False
        try:
            response = methods.WATCH.decode(message)
        except StatusError:  # the pump raises it
            return False
        if not self._watches.is_plain(response):
            return False
        self._watches.received(response, len(message))
        self._send()
        return True

    async def _receive(self, message: bytes) -> None:
        self._watches.received(methods.WATCH.decode(message), len(message))
        self._send()
        suspect = self._watches.suspicion
        if suspect is not None:
            request = rpc_pb2.RangeRequest(key=suspect.request.key, range_end=suspect.request.range_end, count_only=True)
            answer = await self._channel.call(methods.RANGE, request)
            self._watches.verify(answer.header)
