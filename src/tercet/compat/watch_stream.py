"""The watches of one client on one gRPC stream, with its responses and errors handed to callbacks.

They stand on `tercet.client.WatchStream`: when the stream breaks, each watch continues on another one with the revision after
the last that arrived. A watch ends by `cancel`, `close`, a compaction of what it would have to send, or the server's refusal.
The creation of a watch is not repeated: it fails if there is no connection.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

from tercet.client import Watch
from tercet.client import WatchStream as ResumingStream
from tercet.compat.grpc_errors import rpc_error
from tercet.compat.watch_channel import WatchChannel
from tercet.errors import Code
from tercet.proto import rpc_pb2

OnAnswer = Callable[[rpc_pb2.WatchResponse | Exception | None], object]
"""Called on the event loop with each response, or with the error that ended the watch; None: the client was closed."""


class WatchStream:
    """compacted: makes the exception for a watch of compacted revisions."""

    def __init__(self, channel: WatchChannel, compacted: Callable[[int], Exception]) -> None:
        self._channel = channel
        self._compacted = compacted
        self._stream = ResumingStream(channel, require_leader=False)  # as the originals, which wait for a leader
        self._ids = itertools.count()
        self._running: dict[int, tuple[Watch, OnAnswer, asyncio.Task[None]]] = {}

    async def create(self, request: rpc_pb2.WatchCreateRequest, on_answer: OnAnswer) -> int:
        """The ID of a new watch, which is the client's own: the server's changes with the stream.

        Raises RpcError, or what `compacted` makes.
        """
        watch = await self._stream.watch(request)
        created = asyncio.ensure_future(watch.created())
        failure = self._channel.creation_failure()
        try:
            await asyncio.wait((created, failure), return_when=asyncio.FIRST_COMPLETED)
            if not created.done():
                await failure
            if not await created:
                raise self._end_of(watch, await anext(watch))
        except BaseException:
            watch.close()
            raise
        finally:
            created.cancel()
            failure.cancel()
        watch_id = next(self._ids)
        following = asyncio.get_running_loop().create_task(self._follow(watch_id, watch, on_answer))
        self._running[watch_id] = (watch, on_answer, following)
        return watch_id

    async def cancel(self, watch_id: int) -> bool:
        """End a watch: its callback is not called any more. Returns whether there was one."""
        watch, _, following = self._running.pop(watch_id, (None, None, None))
        if watch is None or following is None:
            return False
        following.cancel()
        watch.close()
        return True

    async def close(self) -> None:
        """End the stream; the callbacks get None."""
        running, self._running = self._running, {}
        for _, on_answer, following in running.values():
            following.cancel()
            on_answer(None)
        await self._stream.close()

    async def _follow(self, watch_id: int, watch: Watch, on_answer: OnAnswer) -> None:
        async for response in watch:
            if response.canceled:
                self._running.pop(watch_id, None)
                on_answer(self._end_of(watch, response))
            else:
                on_answer(response)

    def _end_of(self, watch: Watch, last: rpc_pb2.WatchResponse) -> Exception:
        if watch.error is not None:
            return rpc_error(watch.error.code, watch.error.message)
        if last.compact_revision:
            return self._compacted(last.compact_revision)
        return rpc_error(Code.CANCELLED, last.cancel_reason)
