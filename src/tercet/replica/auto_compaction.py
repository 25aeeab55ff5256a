"""Which revision should be compacted now, of the member's own accord? Told the time and the revision, never asking for
them.

`periodic` keeps what changed within `retention`: it samples the revision, ten times in each hour (or in each retention, if
that is shorter), and once it has waited a whole retention, compacts to the sample taken that long ago, every hour (or
retention). `revision` keeps the last so many revisions, looked at every five minutes.
Both sample on every member, so that a new leader need not wait; the caller proposes only on the leader, and says
`compacted` when it went well (or when the revision had been compacted already); what failed is tried again at the next
turn.
Source: etcd server/etcdserver/api/v3compactor, by its behaviour.
"""

from __future__ import annotations

import re
from collections import deque
from typing import Final, Protocol

from tercet.errors import ConfigError
from tercet.gotext.duration import NANOSECONDS, parse_duration

_HOUR: Final = 3600.0
_REVISION_INTERVAL_SECONDS: Final = 300.0
_SAMPLES_PER_INTERVAL: Final = 10


class AutoCompaction(Protocol):
    """Asked at `next_seconds`, on the clock whose `now` it was made and is told with."""

    next_seconds: float

    def due(self, now: float, revision: int) -> int | None:
        """The revision to compact to, or None. At most one answer a turn."""
        ...

    def compacted(self, now: float, revision: int) -> None:
        """The compaction that `due` asked for is done, or was done by another."""
        ...


class PeriodicCompaction:
    """Keep what changed within `retention_seconds`."""

    def __init__(self, retention_seconds: float, now: float, revision: int) -> None:
        self._interval_seconds = min(retention_seconds, _HOUR)
        self._sample_seconds = self._interval_seconds / _SAMPLES_PER_INTERVAL
        samples = int(retention_seconds / self._sample_seconds + 1e-6) + 1
        self._samples = deque([revision], maxlen=samples)
        self._wait_seconds = retention_seconds  # the first time; then the interval
        self._last_success = now
        self._last_revision = 0
        self.next_seconds = now + self._sample_seconds

    def due(self, now: float, revision: int) -> int | None:
        if now < self.next_seconds:
            return None
        oldest = self._samples[0]
        self._samples.append(revision)
        self.next_seconds = now + self._sample_seconds
        # The turns are a little late each; a thousandth of a sample makes up for what floats lose.
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
    """From --auto-compaction-mode and --auto-compaction-retention; None where it is off. Raises ConfigError."""
    amount = parse_retention(mode, retention)
    if amount == 0:
        return None
    if mode == "periodic":
        return PeriodicCompaction(amount / 1e9, now, revision)
    return RevisionCompaction(amount, now)


def parse_retention(mode: str, retention: str) -> int:
    """Nanoseconds (periodic) or revisions (revision); 0 is off. Raises ConfigError.

    A plain integer counts hours or revisions. Anything else is a duration as Go writes it, such as `1h30m`; in mode
    `revision` its nanoseconds count as revisions, as they do in etcd.
    """
    if mode == "":
        raise ConfigError("undefined auto-compaction-mode")
    if mode not in ("periodic", "revision"):
        raise ConfigError(f'unknown auto-compaction-mode "{mode}"')
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
