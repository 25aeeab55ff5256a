"""One watch without I/O: what is buffered for its consumer, and the revision from which it continues on a new stream.

    state = WatchState(rpc_pb2.WatchCreateRequest(key=b"a"))
    state.created(header_revision=7)       # a watch of the present: next_revision is 8
    state.accept(response)                 # an event of revision 9: next_revision is 10
    state.take()                           # the response

The next revision follows from what the server sent, not from what the consumer took: the buffer survives a lost connection.
- After events it is the last one's mod_revision + 1, after a progress notification the header's revision + 1.
- After the answer to a create request of the present it is the header's revision + 1. etcd's client omits the 1 and may deliver
  the event of that revision.
- The answer to a progress request (watch ID -1) does not move it: etcd before 3.5.8 may send it before events of that revision.
A response in fragments is delivered as soon as its revisions are complete; no revision is ever split.

Source: etcd client/v3/watch.go.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum

from tercet.errors import StatusError
from tercet.proto import kv_pb2, rpc_pb2

ALL_WATCHES = -1
"""The watch ID of an answer to a progress request."""
RESPONSES_MAX = 1000
BYTES_MAX = 16 << 20


class Phase(Enum):
    """WAITING: to be created on the stream. CREATING: requested. PAUSED: cancelled at the server while the buffer is full."""

    WAITING = 1
    CREATING = 2
    RUNNING = 3
    PAUSED = 4
    ENDED = 5


class WatchState:
    """`resumes` counts how often the watch was created again after a lost stream; `error` is set if it ended by one."""

    def __init__(
        self, request: rpc_pb2.WatchCreateRequest, *, responses_max: int = RESPONSES_MAX, bytes_max: int = BYTES_MAX
    ) -> None:
        """responses_max, bytes_max: bounds of the buffer. One response may exceed them; the next is not requested then."""
        self.request = rpc_pb2.WatchCreateRequest()
        self.request.CopyFrom(request)
        self.next_revision = request.start_revision
        self.phase = Phase.WAITING
        self.watch_id = 0
        self.was_created = False
        self.resumes = 0
        self.refusals = 0
        self.error: StatusError | None = None
        self.on_ready: Callable[[], None] = lambda: None
        self._responses_max = responses_max
        self._bytes_max = bytes_max
        self._buffer: deque[tuple[rpc_pb2.WatchResponse, int]] = deque()
        self._buffered_bytes = 0
        self._incomplete: list[kv_pb2.Event] = []

    # From the stream

    def create_request(self) -> rpc_pb2.WatchRequest:
        """The request that creates the watch, from the first revision not received whole; what is incomplete arrives again."""
        self._incomplete.clear()
        self.request.start_revision = self.next_revision
        return rpc_pb2.WatchRequest(create_request=self.request)

    def created(self, header_revision: int) -> None:
        self.was_created = True
        if self.next_revision == 0:
            self.next_revision = header_revision + 1
        self.on_ready()

    def accept(self, response: rpc_pb2.WatchResponse, size_bytes: int = 0) -> None:
        """Buffer events or a progress notification. size_bytes: of the message, counted against the buffer's bound."""
        if response.fragment or self._incomplete:
            response = self._complete_revisions(response)
            if not response.events:
                return
        events = response.events
        if events:
            self.next_revision = events[-1].kv.mod_revision + 1
        elif response.watch_id != ALL_WATCHES:
            self.next_revision = max(self.next_revision, response.header.revision + 1)
        self._push(response, size_bytes)

    def interrupted(self) -> None:
        """The stream is lost: a watch that the server had, or was to create, is created on the next one."""
        if self.phase is Phase.RUNNING:
            self.resumes += 1
        if self.phase in (Phase.RUNNING, Phase.CREATING):
            self.phase = Phase.WAITING

    def end(self, last: rpc_pb2.WatchResponse, error: StatusError | None = None) -> None:
        """The watch is cancelled by the server, or fails; `last` says why and is delivered after what is buffered."""
        self.phase = Phase.ENDED
        self.error = error
        self._push(last, 0)

    def fail(self, error: StatusError) -> None:
        self.end(rpc_pb2.WatchResponse(canceled=True, cancel_reason=error.message), error)

    # From the consumer

    def take(self) -> rpc_pb2.WatchResponse | None:
        """The next buffered response, None if there is none."""
        if not self._buffer:
            return None
        response, size_bytes = self._buffer.popleft()
        self._buffered_bytes -= size_bytes
        return response

    @property
    def is_full(self) -> bool:
        return len(self._buffer) >= self._responses_max or self._buffered_bytes >= self._bytes_max

    @property
    def is_drained(self) -> bool:
        """Whether a paused watch may go on: half of the buffer is free, so that not every response costs a create request."""
        return 2 * len(self._buffer) <= self._responses_max and 2 * self._buffered_bytes <= self._bytes_max

    def _push(self, response: rpc_pb2.WatchResponse, size_bytes: int) -> None:
        self._buffer.append((response, size_bytes))
        self._buffered_bytes += size_bytes
        self.on_ready()

    def _complete_revisions(self, response: rpc_pb2.WatchResponse) -> rpc_pb2.WatchResponse:
        """The response with the events of complete revisions; the last revision of a fragment may go on in the next."""
        events = [*self._incomplete, *response.events]
        self._incomplete = []
        if response.fragment and events:
            last = events[-1].kv.mod_revision
            self._incomplete = [event for event in events if event.kv.mod_revision == last]
            events = events[: len(events) - len(self._incomplete)]
        return rpc_pb2.WatchResponse(header=response.header, watch_id=response.watch_id, events=events)
