"""A damaged record of a simulated database: reads of it fail as on a member whose checksums do not match."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Final

from tercet.errors import CorruptRecord
from tercet.sim.clock import MICROSECONDS

_NEWEST: Final = 4  # requests that compare or return what was before read these
Schedule = Callable[[int, Callable[[], None]], None]


class BitRot:
    """key: of the damaged record of bucket `key`; None: none is."""

    def __init__(self, random: Random) -> None:
        self.key: bytes | None = None
        self._random = random
        self._schedule: Schedule | None = None
        self._on_found: Callable[[], None] | None = None

    def start(self, schedule: Schedule, on_found: Callable[[], None]) -> None:
        """An incarnation of the member begins."""
        self._schedule, self._on_found = schedule, on_found

    def damage(self, records: Iterable[bytes], *, is_found_at_once: bool = False) -> None:
        """Damage one of the records, often one of the newest. The scrub finds it within two seconds, if no read does."""
        keys = list(records)
        if self.key is None and keys:
            self.key = self._random.choice(keys[-_NEWEST:] if self._random.random() < 0.5 else keys)
            self._report_after(0 if is_found_at_once else self._random.randint(0, 2 * MICROSECONDS))

    def found(self, key: bytes) -> CorruptRecord:
        """The error of a read of the record."""
        self._report_after(0)
        return CorruptRecord(f"wrong checksum of record {key.hex()}", key)

    def _report_after(self, delay: int) -> None:
        if self._schedule is not None:
            self._schedule(delay, self._report)

    def _report(self) -> None:
        if self.key is not None and self._on_found is not None:
            self._on_found()
