"""A model of a member's watch stream: it answers requests in order, and sends events of a history when the test says so."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from tercet.client.watch_set import WatchSet
from tercet.proto import kv_pb2, rpc_pb2

CLUSTER = 7


@dataclass
class History:
    """What the cluster has committed: keys of each revision. Revision 1 is the empty store."""

    revisions: list[list[bytes]] = field(default_factory=list)

    @property
    def revision(self) -> int:
        return 1 + len(self.revisions)

    def put(self, *keys: bytes) -> int:
        self.revisions.append(list(keys))
        return self.revision

    def events(self, revision: int) -> list[kv_pb2.Event]:
        return [kv_pb2.Event(kv=kv_pb2.KeyValue(key=key, mod_revision=revision)) for key in self.revisions[revision - 2]]


class StreamModel:
    """One stream of a member that has applied `applied` revisions. `watches` are the positions by watch ID."""

    def __init__(self, history: History, watches: WatchSet, *, cluster_id: int = CLUSTER) -> None:
        self.history = history
        self.applied = history.revision
        self.positions: dict[int, int] = {}
        self._watches = watches
        self._cluster_id = cluster_id
        self._requests: deque[rpc_pb2.WatchRequest] = deque()
        self._next_id = 0

    def header(self) -> rpc_pb2.ResponseHeader:
        return rpc_pb2.ResponseHeader(cluster_id=self._cluster_id, revision=self.applied)

    def answer_next(self) -> None:
        """Process the next request."""
        self._requests.extend(self._watches.take_requests())
        if not self._requests:
            return
        request = self._requests.popleft()
        if request.HasField("create_request"):
            start = request.create_request.start_revision
            self.positions[self._next_id] = max(2, start) if start else self.applied + 1
            self._send(rpc_pb2.WatchResponse(watch_id=self._next_id, created=True))
            self._next_id += 1
        elif request.HasField("cancel_request"):
            watch_id = request.cancel_request.watch_id
            if self.positions.pop(watch_id, None) is not None:
                self._send(rpc_pb2.WatchResponse(watch_id=watch_id, canceled=True))
        else:
            self._send(rpc_pb2.WatchResponse(watch_id=-1))

    def answer_all(self) -> None:
        while self._requests or (found := self._watches.take_requests()):
            if not self._requests:
                self._requests.extend(found)
            self.answer_next()

    def send_events(self, watch_id: int, revisions: int = 1000, *, fragment_events: int = 0) -> None:
        """Send the next `revisions` revisions of a watch as one response, or in fragments of so many events."""
        start = self.positions[watch_id]
        stop = min(self.applied + 1, start + revisions)
        events = [event for revision in range(start, stop) for event in self.history.events(revision)]
        if not events:
            return
        self.positions[watch_id] = stop
        size = fragment_events or len(events)
        for at in range(0, len(events), size):
            is_last = at + size >= len(events)
            self._send(rpc_pb2.WatchResponse(watch_id=watch_id, events=events[at : at + size], fragment=not is_last))

    def send_half(self, watch_id: int) -> None:
        """Send all but the last fragment, as before a connection breaks."""
        start = self.positions[watch_id]
        events = [event for revision in range(start, self.applied + 1) for event in self.history.events(revision)]
        if len(events) > 1:
            self._send(rpc_pb2.WatchResponse(watch_id=watch_id, events=events[:-1], fragment=True))

    def notify_progress(self, watch_id: int) -> None:
        """Sent by the server when all events of the watch have been."""
        if self.positions[watch_id] > self.applied:
            self._send(rpc_pb2.WatchResponse(watch_id=watch_id))

    def end(self, watch_id: int, reason: str = "", compact_revision: int = 0) -> None:
        self.positions.pop(watch_id)
        self._send(
            rpc_pb2.WatchResponse(watch_id=watch_id, canceled=True, cancel_reason=reason, compact_revision=compact_revision)
        )

    def refuse(self, reason: str) -> None:
        """Answer the next request, a create, with a refusal."""
        self._requests.extend(self._watches.take_requests())
        self._requests.popleft()
        self._send(rpc_pb2.WatchResponse(watch_id=-1, created=True, canceled=True, cancel_reason=reason))

    def _send(self, response: rpc_pb2.WatchResponse) -> None:
        response.header.CopyFrom(self.header())
        self._watches.received(rpc_pb2.WatchResponse.FromString(response.SerializeToString()), response.ByteSize())
