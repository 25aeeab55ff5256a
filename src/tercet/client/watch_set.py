"""All watches of one stream, without I/O: which requests are sent, and which watch a response is for.

    watches = WatchSet()
    watches.add(state)                      # before or after the stream is open
    watches.opened()                        # a new stream: every watch is created on it
    watches.take_requests()                 # the requests to send now
    watches.received(response)              # from the server
    watches.lost()                          # the stream has ended: watches continue on the next

The server answers create requests in order, so an answer belongs to the oldest request without one. A watch whose buffer is
full is cancelled at the server and created again when half of the buffer is free: its neighbours on the stream do not wait.

A cluster restored from a backup has another cluster ID, or a lower revision than one already seen. A lower revision alone may
be that of a member that lags: `suspicion` is set until `verify` is called with the header of a linearizable read.
"""

from __future__ import annotations

from collections import deque

from tercet.client.watch_state import ALL_WATCHES, Phase, WatchState
from tercet.errors import Code, StatusError
from tercet.proto import rpc_pb2

_STALE_TOKEN = ("etcdserver: invalid auth token", "etcdserver: revision of auth store is old")
_REFUSALS_MAX = 3


class WatchRewound(StatusError):
    """The cluster has lost revisions that were delivered: it was restored from a backup, or is another one."""


class WatchSet:
    """`must_reopen`: the stream's token is stale, the watches need a new stream."""

    def __init__(self) -> None:
        self.must_reopen = False
        self.suspicion: WatchState | None = None
        self._watches: dict[WatchState, None] = {}
        self._is_open = False
        self._progress_is_due = False
        self._creating: deque[WatchState] = deque()
        self._running: dict[int, WatchState] = {}
        self._cancelled: set[int] = set()
        self._requests: list[rpc_pb2.WatchRequest] = []
        self._cluster_id = 0
        self._revision_seen = 0

    def __len__(self) -> int:
        return len(self._watches)

    @property
    def has_requests(self) -> bool:
        return bool(self._requests)

    def take_requests(self) -> list[rpc_pb2.WatchRequest]:
        """What to send on the open stream, in this order."""
        requests, self._requests = self._requests, []
        return requests

    # From consumers

    def add(self, state: WatchState) -> None:
        self._watches[state] = None
        if self._is_open:
            self._create(state)

    def remove(self, state: WatchState) -> None:
        """The consumer leaves: cancel the watch at the server."""
        self._watches.pop(state, None)
        if state.phase is Phase.RUNNING:
            self._cancel(state.watch_id)
        state.phase = Phase.ENDED

    def taken(self, state: WatchState) -> None:
        """The consumer has taken a response: a paused watch may go on."""
        if state.phase is Phase.PAUSED and state.is_drained:
            state.phase = Phase.WAITING
            if self._is_open:
                self._create(state)

    def request_progress(self) -> None:
        """Ask for the revision up to which all watches have been sent. The request waits for the answers to creates."""
        self._progress_is_due = True
        self._send_progress()

    # From the stream

    def opened(self) -> None:
        self._is_open = True
        self.must_reopen = False
        for state in self._watches:
            if state.phase is Phase.WAITING:
                self._create(state)
        self._send_progress()

    def lost(self) -> None:
        self._is_open = False
        self._creating.clear()
        self._running.clear()
        self._cancelled.clear()
        self._requests.clear()
        self.suspicion = None
        for state in self._watches:
            state.interrupted()

    def fail(self, error: StatusError) -> None:
        """No watch can continue."""
        self.lost()
        for state in tuple(self._watches):
            self._watches.pop(state)
            state.fail(error)

    def received(self, response: rpc_pb2.WatchResponse, size_bytes: int = 0) -> None:
        """size_bytes: of the message."""
        header = response.header
        cluster_id, revision = header.cluster_id, header.revision
        if cluster_id and self._is_other_cluster(cluster_id):
            return
        if response.created:
            self._created(response)
        elif response.canceled:
            self._canceled(response)
        elif response.watch_id == ALL_WATCHES:
            for state in tuple(self._running.values()):
                self._deliver(state, response, size_bytes)
        else:
            found = self._running.get(response.watch_id)
            if found is not None:
                self._deliver(found, response, size_bytes)
            elif response.watch_id not in self._cancelled:
                self._cancel(response.watch_id)
        if revision > self._revision_seen:
            self._revision_seen = revision

    def is_plain(self, response: rpc_pb2.WatchResponse) -> bool:
        """Whether `received` only delivers this response: it sets neither `suspicion` nor `must_reopen`, and ends no watch."""
        return not (response.created or response.canceled) and response.header.cluster_id in (0, self._cluster_id)

    def verify(self, header: rpc_pb2.ResponseHeader) -> None:
        """Compare what was seen with the header of a linearizable read, which no live cluster answers with less."""
        self.suspicion = None
        if not self._is_other_cluster(header.cluster_id) and header.revision < self._revision_seen:
            text = f"the cluster is at revision {header.revision}, below {self._revision_seen}: it was restored from a backup"
            self.fail(WatchRewound(Code.DATA_LOSS, text))

    def _is_other_cluster(self, cluster_id: int) -> bool:
        """Whether the cluster is not the one seen before; all watches have failed then."""
        if self._cluster_id in (0, cluster_id):
            self._cluster_id = cluster_id
            return False
        text = f"the cluster's ID has changed from {self._cluster_id:x} to {cluster_id:x}: it was restored from a backup"
        self.fail(WatchRewound(Code.DATA_LOSS, text))
        return True

    def _create(self, state: WatchState) -> None:
        state.phase = Phase.CREATING
        self._creating.append(state)
        self._requests.append(state.create_request())

    def _cancel(self, watch_id: int) -> None:
        self._running.pop(watch_id, None)
        self._cancelled.add(watch_id)
        self._requests.append(rpc_pb2.WatchRequest(cancel_request=rpc_pb2.WatchCancelRequest(watch_id=watch_id)))

    def _created(self, response: rpc_pb2.WatchResponse) -> None:
        if not self._creating:
            return  # of a server that answers twice
        state = self._creating.popleft()
        if response.canceled:
            self._refused(state, response)
        elif state.phase is Phase.ENDED:
            self._cancel(response.watch_id)
        else:
            state.phase, state.watch_id, state.refusals = Phase.RUNNING, response.watch_id, 0
            state.created(response.header.revision)
            self._running[response.watch_id] = state
            if response.header.revision < self._revision_seen:
                self.suspicion = state
        self._send_progress()

    def _refused(self, state: WatchState, response: rpc_pb2.WatchResponse) -> None:
        """The server does not create the watch. A token that has become stale is worth another try, on a new stream."""
        state.refusals += 1
        if response.cancel_reason.endswith(_STALE_TOKEN) and state.refusals < _REFUSALS_MAX:
            self.must_reopen = True
        else:
            self._end(state, response)

    def _send_progress(self) -> None:
        if self._progress_is_due and self._is_open and not self._creating:
            self._progress_is_due = False
            self._requests.append(rpc_pb2.WatchRequest(progress_request=rpc_pb2.WatchProgressRequest()))

    def _canceled(self, response: rpc_pb2.WatchResponse) -> None:
        self._cancelled.discard(response.watch_id)
        state = self._running.pop(response.watch_id, None)
        if state is not None:
            self._end(state, response)

    def _end(self, state: WatchState, response: rpc_pb2.WatchResponse) -> None:
        if state in self._watches:
            del self._watches[state]
            state.end(response)

    def _deliver(self, state: WatchState, response: rpc_pb2.WatchResponse, size_bytes: int) -> None:
        state.accept(response, size_bytes)
        if state.is_full and state.phase is Phase.RUNNING:
            state.phase = Phase.PAUSED
            self._cancel(state.watch_id)
