"""The Watch service: create, cancel and progress requests of a stream, and its events.

The hub (mvcc/watch_hub.py) decides what each watch gets; here it becomes WatchResponses. All responses of one turn leave a
stream together. A stream whose client does not read is shut: the hub sends it nothing until there is room, and its requests are
not read either.
Source: etcd server/etcdserver/api/v3rpc/watch.go.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import Final

from tercet import errors
from tercet.auth import is_empty
from tercet.errors import Code, CorruptRecord, RequestError, StatusError
from tercet.intake import intake_of_running_loop
from tercet.mvcc import NO_DELETE, NO_PUT, PREV_KV, Batch, Budget, Watch, WatchHub, WatchRefused
from tercet.mvcc.work import TURN_WORK
from tercet.proto import rpc_pb2
from tercet.proto.wire import paste_field, varint
from tercet.replica.empty_ranges import TreeGrowth
from tercet.replica.replica import Replica
from tercet.rpc import Handler, ServerStream, bidi_stream, unmarshal_streamed
from tercet.services.authorization import Authorization
from tercet.services.headers import Headers
from tercet.services.watch_durations import SendDurations

INVALID_ID: Final = -1  # of a watch that was not created, and of progress of all watches
FRAGMENT_OVERHEAD_BYTES: Final = 512 << 10  # beyond the largest request (etcd: grpcOverheadBytes)
_CREATED: Final = b"\x18\x01"
_CANCELED: Final = b"\x20\x01"
_COMPACT_REVISION: Final = b"\x28"
_CANCEL_REASON: Final = 6
_FRAGMENT: Final = b"\x38\x01"
_QUEUE_BYTES_MAX: Final = 1 << 20  # of a stream; then its watches read history
_RESPONSE_BYTES_MAX: Final = (1 << 31) - (1 << 10)  # those of one revision that a watch without fragments can get
_LARGE_BYTES: Final = 4 << 10  # a body that is not copied for each watch
_NOTIFIED_PER_TURN: Final = 200  # watches of a stream, of their progress
_FILTERS_MAX: Final = 1024  # there are two kinds; a million of them take 50 ms to look at
_JITTER: Final = 0.1  # of the interval of progress notifications, so that clients that came together are not served together


class WatchService:
    """etcdserverpb.Watch on one member.

    progress_seconds: between the periodic notifications of a watch that asks for them.
    fail: called when the watches cannot be served any more; the member must stop.
    """

    def __init__(
        self,
        replica: Replica,
        headers: Headers,
        authorization: Authorization,
        *,
        request_bytes_max: int,
        progress_seconds: float,
        fail: Callable[[BaseException], None],
    ) -> None:
        self.hub: WatchHub = replica.watches
        self.headers = headers
        self.loop = asyncio.get_running_loop()
        self.intake = intake_of_running_loop()
        self.progress_seconds = progress_seconds
        self.message_bytes_max = request_bytes_max + FRAGMENT_OVERHEAD_BYTES
        self._replica = replica
        self._authorization = authorization
        self._fail = fail
        self._budget = Budget(0)
        self._streams: dict[ServerStream, _WatchStream] = {}
        self._unsent: list[_WatchStream] = []  # streams with messages of this turn
        self.durations = SendDurations(self.hub)
        self.hub.schedule = self._schedule
        if self.hub.is_scheduled:
            self._schedule()

    def handlers(self) -> dict[str, Handler]:
        return {"/etcdserverpb.Watch/Watch": bidi_stream(self.watch)}

    async def watch(self, call: ServerStream) -> None:
        call.allow_queue(_QUEUE_BYTES_MAX)
        stream = _WatchStream(self, call)
        self._streams[call] = stream
        try:
            async for message in call:
                self.durations.begin()
                stream.handle(unmarshal_streamed(rpc_pb2.WatchRequest.FromString, message))
                self.send_unsent()
                self.durations.end()
                if not stream.watches.has_room:
                    await call.drained()
            await self.loop.create_future()  # the client sends no more requests; its watches go on until it cancels the call
        finally:
            del self._streams[call]
            stream.close()

    def close(self) -> None:
        """The member stops: end all streams, so that their clients continue at another member without delay."""
        for call in tuple(self._streams):
            call.fail_with(errors.STOPPED)
            call.cancel_handler()

    def cancel_all(self, reason: str) -> None:
        """Cancel all watches; their clients are told the reason. The streams stay open."""
        for stream in self._streams.values():
            stream.cancel_all(reason)
        self.send_unsent()

    def check(self, call: ServerStream, create: rpc_pb2.WatchCreateRequest) -> None:
        """May the client of this call create this watch? Raises RequestError or WatchRefused, whose text
        becomes the watch's cancel_reason. Permissions that are lost later end no watch, as in etcd.
        """
        if create.start_revision < 0:
            raise errors.COMPACTED
        if len(create.filters) > _FILTERS_MAX:
            raise WatchRefused(f"etcdserver: a watch with more than {_FILTERS_MAX} filters")
        authorization = self._authorization
        if authorization.auth.is_enabled:
            key, range_end = create.key or b"\0", create.range_end
            try:
                identity = authorization.identify(call)
                if is_empty(key, range_end) and TreeGrowth(authorization.auth, identity, key, range_end, reads=True).is_needed:
                    raise errors.PERMISSION_DENIED  # the watch would be refused anyway
                authorization.auth.check_read(identity, key, range_end)
            except RequestError as refusal:
                raise WatchRefused(_as_grpc_go(errors.strip_traceback(refusal))) from None

    def current_header(self) -> bytes:
        return self.headers.encode(self._replica.revision)

    def will_send(self, stream: _WatchStream) -> None:
        """The stream has messages, to be sent at the end of this turn or request."""
        self._unsent.append(stream)

    def send_unsent(self) -> None:
        streams, self._unsent = self._unsent, []
        for stream in streams:
            stream.send()

    def _schedule(self) -> None:
        self.loop.call_soon(self._turn)

    def _turn(self) -> None:
        budget = self._budget
        budget.left = TURN_WORK
        self.durations.begin()
        try:
            more = self.hub.step(budget)
        except Exception as error:
            self._fail(error)
            return
        self.send_unsent()
        self.durations.end()
        if more:
            self._schedule()


class _WatchStream:
    """One call: the receiver of its watches."""

    __slots__ = ("_bytes", "_call", "_messages", "_room", "_service", "_timer", "watches")

    def __init__(self, service: WatchService, call: ServerStream) -> None:
        self._service = service
        self._call = call
        self._messages: list[bytes] = []
        self._bytes = 0
        self._room: asyncio.Task[None] | None = None  # waits for room
        self._timer: asyncio.Handle | None = None  # of the next progress notifications
        self.watches = service.hub.open(self, takes_large_batches=call.shares_parts)

    def close(self) -> None:
        self._service.hub.close(self.watches)
        if self._room is not None:
            self._room.cancel()
        if self._timer is not None:
            self._timer.cancel()

    # Requests

    def handle(self, request: rpc_pb2.WatchRequest) -> None:
        kind = request.WhichOneof("request_union")
        if kind == "create_request":
            self._create(request.create_request)
        elif kind == "cancel_request":
            watch_id = request.cancel_request.watch_id
            if self._service.hub.cancel(self.watches, watch_id):
                self._service.durations.controls += 1
                self._queue(self._service.current_header() + _watch_id(watch_id) + _CANCELED)
        elif kind == "progress_request":
            self._service.intake.spend(self._service.hub.request_progress(self.watches))

    def cancel_all(self, reason: str) -> None:
        service = self._service
        for watch_id in tuple(self.watches.watches):
            service.hub.cancel(self.watches, watch_id)
            text = paste_field(_CANCEL_REASON, reason.encode())
            self._queue(service.current_header() + _watch_id(watch_id) + _CANCELED + text)

    def _create(self, create: rpc_pb2.WatchCreateRequest) -> None:
        service = self._service
        try:
            service.check(self._call, create)
            watch = service.hub.create(
                self.watches,
                create.watch_id,
                create.key or b"\0",
                None if create.range_end == b"\0" else create.range_end,
                create.start_revision,
                _flags(create),
                wants_progress=create.progress_notify,
                wants_fragments=create.fragment,
            )
        except RequestError as refusal:
            self._refuse(errors.strip_traceback(refusal).message)
        except WatchRefused as refused:
            self._refuse(str(refused))
        else:
            service.durations.controls += 1
            self._queue(service.current_header() + _watch_id(watch.id) + _CREATED)
            if watch.wants_progress and self._timer is None:
                self._start_timer()

    def _refuse(self, reason: str) -> None:
        self._service.durations.controls += 1
        header = self._service.current_header()
        self._queue(
            b"".join((header, _watch_id(INVALID_ID), _CREATED, _CANCELED, paste_field(_CANCEL_REASON, reason.encode())))
        )

    # Receiver

    def deliver(self, watch: Watch, revision: int, batch: Batch) -> bool:
        watch.is_quiet = False
        service = self._service
        service.durations.responses += 1
        head = service.headers.encode(revision) + _watch_id(watch.id)
        if watch.wants_fragments and len(batch.pieces) > 1 and len(head) + batch.size_bytes >= service.message_bytes_max:
            return self._deliver_fragments(head, batch.pieces)
        if batch.size_bytes > _RESPONSE_BYTES_MAX:
            self._call.fail_with(RequestError(Code.RESOURCE_EXHAUSTED, "grpc: trying to send message larger than max"))
            self._call.cancel_handler()
            return False
        return self._send_response(head, batch.pieces)

    def _send_response(self, head: bytes, pieces: list[bytes]) -> bool:
        if len(pieces) == 1 and len(pieces[0]) < _LARGE_BYTES:
            return self._queue(head + pieces[0])
        self.send()
        return self._call.send_parts(head, pieces)

    def _deliver_fragments(self, head: bytes, pieces: list[bytes]) -> bool:
        """Responses of at most `message_bytes_max`, but at least one event; all but the last say that more follows."""
        limit = self._service.message_bytes_max
        part: list[bytes] = []
        size = empty = len(head) + len(_FRAGMENT)
        for piece in pieces:
            if part and size + len(piece) >= limit:
                self._send_response(head + _FRAGMENT, part)
                part, size = [], empty
            part.append(piece)
            size += len(piece)
        return self._send_response(head, part)

    def compacted(self, watch: Watch, compact_revision: int) -> bool:
        """The header has no revision, as etcd's."""
        header = self._service.headers.encode(0)
        return self._queue(header + _watch_id(watch.id) + _CANCELED + _COMPACT_REVISION + varint(compact_revision))

    def progress(self, watch_id: int, revision: int) -> None:
        self._service.durations.notifications += 1
        self._queue(self._service.headers.encode(revision) + _watch_id(watch_id))

    def fail(self, error: CorruptRecord) -> None:
        self._call.fail_with(error)
        self._call.cancel_handler()

    def wait_for_room(self) -> None:
        self._room = self._service.loop.create_task(self._wait_for_room())

    async def _wait_for_room(self) -> None:
        try:
            await self._call.drained()
        except StatusError:
            return  # the call has ended
        self._service.hub.resume(self.watches)

    # Sending

    def _queue(self, message: bytes) -> bool:
        if not self._messages:
            self._service.will_send(self)
        self._messages.append(message)
        self._bytes += len(message)
        return self._bytes < _QUEUE_BYTES_MAX

    def send(self) -> None:
        """Send what is queued."""
        messages, self._messages = self._messages, []
        self._bytes = 0
        if messages and not (self._call.send_all(messages) if len(messages) > 1 else self._call.send_now(messages[0])):
            self.watches.shut()

    # Periodic progress

    def _start_timer(self) -> None:
        seconds = self._service.progress_seconds * (1 + _JITTER * random.random())
        self._timer = self._service.loop.call_later(seconds, self._notify_progress)

    def _notify_progress(self) -> None:
        """Notify each watch that asked for it and had no event since the last time; some in each turn of the loop."""
        self._notify_some(deque(self.watches.watches.values()))

    def _notify_some(self, watches: deque[Watch]) -> None:
        service = self._service
        service.durations.begin()
        for _ in range(min(_NOTIFIED_PER_TURN, len(watches))):
            watch = watches.popleft()
            if watch.wants_progress:
                if watch.is_quiet and not watch.is_over:
                    service.hub.notify_progress(watch)
                watch.is_quiet = True
        service.send_unsent()
        service.durations.end()
        if watches:
            self._timer = service.loop.call_soon(self._notify_some, watches)
        else:
            self._start_timer()


def _as_grpc_go(error: RequestError) -> str:
    """A status as Go prints it, which is what etcd's clients get for a watch that is not permitted."""
    name = "".join(word.capitalize() for word in Code(error.code).name.split("_"))
    return f"rpc error: code = {name} desc = {error.message}"


def _watch_id(watch_id: int) -> bytes:
    """Field watch_id of a WatchResponse."""
    return b"\x10" + varint(watch_id) if watch_id else b""


def _flags(create: rpc_pb2.WatchCreateRequest) -> int:
    flags = PREV_KV if create.prev_kv else 0
    for kind in create.filters:
        if kind == rpc_pb2.WatchCreateRequest.NOPUT:
            flags |= NO_PUT
        elif kind == rpc_pb2.WatchCreateRequest.NODELETE:
            flags |= NO_DELETE
    return flags
