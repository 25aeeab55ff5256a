"""Counts and logs the heartbeats that a busy leader sends too late (etcd server/etcdserver/raft.go, contention detector)."""

from __future__ import annotations

import logging
import time
from typing import Final

from tercet.gotext.duration import format_seconds
from tercet.log_fields import fields
from tercet.replica.replica import Replica

logger = logging.getLogger(__name__)
_LOG_SECONDS: Final = 5.0  # no more than one line in this time


class LateHeartbeats:
    """`count`: heartbeats sent more than twice the interval after the one before, counted for each follower."""

    def __init__(self, replica: Replica, interval_seconds: float) -> None:
        self._replica = replica
        self._interval_seconds = interval_seconds
        self.count = 0
        self._logged_at = float("-inf")

    def ticked(self, late_seconds: float) -> None:
        """A tick came so much later than it was due."""
        interval = self._interval_seconds
        if late_seconds <= interval or not self._replica.is_leader:
            return
        followers = len(self._replica.membership.members) - 1
        self.count += followers
        now = time.monotonic()
        if followers and now - self._logged_at >= _LOG_SECONDS:
            self._logged_at = now
            logger.warning(
                "leader failed to send out heartbeat on time; took too long, leader is overloaded likely from slow disk",
                extra=fields(
                    heartbeat_interval=format_seconds(interval),
                    expected_duration=format_seconds(2 * interval),
                    exceeded_duration=format_seconds(late_seconds - interval),
                ),
            )
