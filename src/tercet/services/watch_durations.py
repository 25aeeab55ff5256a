"""How long sending to watchers takes, for the metrics etcd_debugging_server_watch_send_loop_*.

Responses are made and sent in batches, one per turn of the hub or request of a client. A batch is timed as a whole: each of its
responses counts with an equal share of the time.

Source: etcd server/etcdserver/api/v3rpc/metrics.go, watch.go (sendLoop).
"""

from __future__ import annotations

from time import monotonic

from tercet.mvcc import WatchHub
from tercet.replica.durations import REQUEST_BOUNDS, Durations

WATCH_STREAM, PER_EVENT, CONTROL, PROGRESS = "watch_stream", "watch_stream_per_event", "control_stream", "progress"


class SendDurations:
    """responses, controls, notifications: those of the current batch with events, about a watch's begin or end, of progress."""

    __slots__ = ("_began", "_events", "_hub", "controls", "durations", "notifications", "responses")

    def __init__(self, hub: WatchHub) -> None:
        self.durations = Durations(REQUEST_BOUNDS)
        self.responses = 0
        self.controls = 0
        self.notifications = 0
        self._hub = hub
        self._began = 0.0
        self._events = 0

    def begin(self) -> None:
        self.responses = self.controls = self.notifications = 0
        self._events = self._hub.delivered_events
        self._began = monotonic()

    def end(self) -> None:
        """The batch is sent."""
        sent = self.responses + self.controls + self.notifications
        if not sent:
            return
        seconds = monotonic() - self._began
        observe = self.durations.observe
        if self.responses:
            observe(WATCH_STREAM, True, seconds / sent, self.responses)
            events = self._hub.delivered_events - self._events
            observe(PER_EVENT, True, seconds * self.responses / sent / max(events, 1), self.responses)
        if self.controls:
            observe(CONTROL, True, seconds / sent, self.controls)
        if self.notifications:
            observe(PROGRESS, True, seconds / sent, self.notifications)
