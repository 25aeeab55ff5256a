"""Policies of automatic compaction: which revision to compact to, given the time and the current revision.

`periodic` keeps the history of the last `retention`: it samples the revision ten times an hour (or per retention, if shorter).
After a whole retention it compacts to the sample of that age, every hour (or retention). `revision` keeps the last `retention`
revisions, checked every five minutes.
Both sample on every member, so that a new leader need not wait; the caller proposes on the leader only, and calls `compacted`
on success (or if the revision was compacted already). A failed compaction is due again at the next check.
Source: etcd server/etcdserver/api/v3compactor, by its behaviour.
"""

from __future__ import annotations

import re
from collections import deque
from typing import Final, Protocol

from tercet.errors import ConfigError
from tercet.gotext.duration import NANOSECONDS, format_seconds, parse_duration

_HOUR: Final = 3600.0
_REVISION_INTERVAL_SECONDS: Final = 300.0
_SAMPLES_PER_INTERVAL: Final = 10


class AutoCompaction(Protocol):
    """Call `due` at `next_seconds`; all times are of one monotonic clock.

    mode: as --auto-compaction-mode names it. shown: the retention, as etcd logs it. retry_seconds: between two checks.
    """

    mode: str
    shown: dict[str, object]
    retry_seconds: float
    next_seconds: float

    def due(self, now: float, revision: int) -> int | None:
        """The revision to compact to now, or None."""
        ...

    def compacted(self, now: float, revision: int) -> None:
        """The compaction that `due` returned has been applied."""
        ...


class PeriodicCompaction:
    """Keep the history of the last `retention_seconds`."""

    def __init__(self, retention_seconds: float, now: float, revision: int) -> None:
        self._interval_seconds = min(retention_seconds, _HOUR)
        self._sample_seconds = self._interval_seconds / _SAMPLES_PER_INTERVAL
        samples = int(retention_seconds / self._sample_seconds + 1e-6) + 1
        self._samples = deque([revision], maxlen=samples)
        self._wait_seconds = retention_seconds  # at first; then the interval
        self._last_success = now
        self._last_revision = 0
        self.mode = "periodic"
        self.shown: dict[str, object] = {"compact-period": format_seconds(retention_seconds)}
        self.retry_seconds = self._sample_seconds
        self.next_seconds = now + self._sample_seconds

    def due(self, now: float, revision: int) -> int | None:
        if now < self.next_seconds:
            return None
        oldest = self._samples[0]
        self._samples.append(revision)
        self.next_seconds = now + self._sample_seconds
        # The tolerance, a thousandth of a sample, covers rounding errors.
        if now - self._last_success < self._wait_seconds - self._sample_seconds / 1000 or oldest == self._last_revision:
            return None
        self._wait_seconds = self._interval_seconds
        return oldest

    def compacted(self, now: float, revision: int) -> None:
        self._last_revision = revision
        self._last_success = now


class RevisionCompaction:
    """Keep the last `retention` revisions."""

    def __init__(self, retention: int, now: float) -> None:
        self._retention = retention
        self._last_revision = 0
        self.mode = "revision"
        self.shown: dict[str, object] = {"revision-compaction-retention": retention}
        self.retry_seconds = _REVISION_INTERVAL_SECONDS
        self.next_seconds = now + _REVISION_INTERVAL_SECONDS

    def due(self, now: float, revision: int) -> int | None:
        if now < self.next_seconds:
            return None
        self.next_seconds = now + _REVISION_INTERVAL_SECONDS
        target = revision - self._retention
        return target if target > 0 and target != self._last_revision else None

    def compacted(self, now: float, revision: int) -> None:
        self._last_revision = revision


def make_auto_compaction(mode: str, retention: str, now: float, revision: int) -> AutoCompaction | None:
    """From --auto-compaction-mode and --auto-compaction-retention; None if it is off. Raises ConfigError."""
    amount = parse_retention(mode, retention)
    if amount == 0:
        return None
    if mode == "periodic":
        return PeriodicCompaction(amount / 1e9, now, revision)
    return RevisionCompaction(amount, now)


def parse_retention(mode: str, retention: str) -> int:
    """Nanoseconds (periodic) or revisions (revision); 0 is off. Raises ConfigError.

    A plain integer counts hours or revisions, an empty text is 0. Anything else is a Go duration such as `1h30m`; in mode
    `revision` its nanoseconds count as revisions, as they do in etcd.
    """
    if mode == "":
        raise ConfigError("undefined auto-compaction-mode")
    if mode not in ("periodic", "revision"):
        raise ConfigError(f'unknown auto-compaction-mode "{mode}"')
    if not retention:
        return 0
    if re.fullmatch(r"\+?[0-9]+", retention):
        amount = int(retention) * (NANOSECONDS["h"] if mode == "periodic" else 1)
    else:
        try:
            amount = parse_duration(retention)
        except ValueError as error:
            raise ConfigError(f"error parsing CompactionRetention: {error}") from error
    if not 0 <= amount < 1 << 63:
        raise ConfigError(f'error parsing CompactionRetention: "{retention}" is out of range')
    return amount
