"""The state of the connection to one member: active or not, since when, and counters.

A member is active while at least one of the four streams of the pair is up. Each change is one log line, however often a dial
fails in between: a peer that is down for an hour is dialled about 70,000 times.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_left
from typing import Final

from tercet.log_fields import fields

logger = logging.getLogger(__name__)


ROUND_TRIP_BOUNDS: Final = tuple(0.0001 * 2**power for power in range(16))  # seconds
TRANSFER_BOUNDS: Final = tuple(0.1 * 2**power for power in range(10))  # seconds
SYNC_BOUNDS: Final = tuple(0.001 * 2**power for power in range(14))


class Receptions:
    """Snapshots received from one member. Plain counters, read when /metrics is scraped."""

    __slots__ = ("counts", "failed", "in_flight", "received", "sum", "sync_counts", "sync_sum")

    def __init__(self) -> None:
        self.received = 0
        self.failed = 0
        self.in_flight = 0
        self.counts = [0] * (len(TRANSFER_BOUNDS) + 1)  # of those received; the last is for slower ones
        self.sum = 0.0  # seconds
        self.sync_counts = [0] * (len(SYNC_BOUNDS) + 1)  # of the fsync of their files
        self.sync_sum = 0.0

    def took(self, seconds: float, *, sync_seconds: float) -> None:
        """One was received completely. sync_seconds: of these, for the fsync of its file."""
        self.received += 1
        self.sync_counts[bisect_left(SYNC_BOUNDS, sync_seconds)] += 1
        self.sync_sum += sync_seconds
        self.counts[bisect_left(TRANSFER_BOUNDS, seconds)] += 1
        self.sum += seconds


class PeerStatus:
    """One member as seen from here. The counters are plain integers, read when /metrics is scraped."""

    __slots__ = (
        "_failures",
        "_links",
        "_loop",
        "active_since",
        "clock_drift",
        "disconnects",
        "id",
        "received_bytes",
        "received_failures",
        "round_trip_counts",
        "round_trip_sum",
        "rtt",
        "sent_bytes",
        "sent_failures",
        "snapshot_send_counts",
        "snapshot_send_sum",
        "snapshots_failed",
        "snapshots_in_flight",
        "snapshots_sent",
    )

    def __init__(self, id: int) -> None:
        self.id = id
        self._loop = asyncio.get_running_loop()
        self._links: dict[str, int] = {}
        self._failures: dict[str, str] = {}  # the last one logged, by link
        self.active_since: float | None = None  # loop.time()
        self.rtt: float | None = None  # seconds, of the last probe
        self.clock_drift: float | None = None  # seconds that its clock is ahead of ours
        self.round_trip_counts = [0] * (len(ROUND_TRIP_BOUNDS) + 1)  # of probes; the last is for slower ones
        self.round_trip_sum = 0.0  # seconds
        self.sent_bytes = 0
        self.received_bytes = 0
        self.sent_failures = 0
        self.received_failures = 0
        self.disconnects = 0
        self.snapshots_sent = 0
        self.snapshots_failed = 0
        self.snapshots_in_flight = 0
        self.snapshot_send_counts = [0] * (len(TRANSFER_BOUNDS) + 1)  # of those sent; the last is for slower ones
        self.snapshot_send_sum = 0.0  # seconds

    def snapshot_began(self) -> None:
        self.snapshots_in_flight += 1

    def snapshot_ended(self, seconds: float, *, ok: bool) -> None:
        self.snapshots_in_flight -= 1
        if not ok:
            self.snapshots_failed += 1
            return
        self.snapshots_sent += 1
        self.snapshot_send_counts[bisect_left(TRANSFER_BOUNDS, seconds)] += 1
        self.snapshot_send_sum += seconds

    def probed(self, round_trip: float, clock_drift: float) -> None:
        """Record the answer to a probe; both in seconds."""
        self.rtt, self.clock_drift = round_trip, clock_drift
        self.round_trip_counts[bisect_left(ROUND_TRIP_BOUNDS, round_trip)] += 1
        self.round_trip_sum += round_trip

    def link_up(self, link: str) -> None:
        if not self._links:
            self.active_since = self._loop.time()
            logger.info("peer became active", extra=fields(peer_id=f"{self.id:x}", link=link))
        self._links[link] = self._links.get(link, 0) + 1
        shown = fields(remote_peer_id=f"{self.id:x}", link=link)
        logger.info("established TCP streaming connection with remote peer", extra=shown)
        self._failures.pop(link, None)

    def link_down(self, link: str, reason: str) -> None:
        lost = fields(remote_peer_id=f"{self.id:x}", link=link, error=reason)
        logger.warning("lost TCP streaming connection with remote peer", extra=lost)
        count = self._links.pop(link, 0) - 1
        if count > 0:
            self._links[link] = count
        elif not self._links and self.active_since is not None:
            self.active_since = None
            self.disconnects += 1
            shown = fields(peer_id=f"{self.id:x}", link=link, error=reason)
            logger.warning("peer became inactive (message send to peer failed)", extra=shown)

    def log_failure(self, link: str, text: str) -> None:
        """Log why a link does not come up, unless the last failure had the same reason."""
        if text != self._failures.get(link):
            self._failures[link] = text
            shown = fields(remote_peer_id=f"{self.id:x}", link=link, error=text)
            logger.warning("connection with the remote peer failed", extra=shown)
