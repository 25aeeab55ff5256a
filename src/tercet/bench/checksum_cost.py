"""What the checksum of each stored record costs, computed in this process: members have no switch to compare with.

A put stores one record. The same loops with and without the checksum are timed (processor time), and the difference divided by
the records; the least of several rounds, since anything else on the machine only adds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from tercet.bench.report import Line
from tercet.storage.checksums import CRC_BYTES, protect, read_chunk, seed_of
from tercet.storage.interfaces import Bucket

_RECORDS: Final = 2000
_ROUNDS: Final = 20
_KEY_BYTES: Final = 17  # of a revision

Record = tuple[bytes, bytes]


Clock = Callable[[], float]


def seconds_a_record(value_bytes: int, clock: Clock = time.process_time) -> tuple[float, float]:
    """Of a record written, and of a record read from the file, by a clock of processor time."""
    seed = seed_of(Bucket.KEY)
    records = [(number.to_bytes(_KEY_BYTES, "big"), bytes(value_bytes)) for number in range(_RECORDS)]
    stored = protect(seed, records)
    least = partial(_least, clock)
    write = least(lambda: protect(seed, records)) - least(lambda: _written_plainly(records))
    read = least(lambda: read_chunk(seed, iter(stored), _RECORDS, 1 << 60)) - least(lambda: _read_plainly(stored))
    return max(write, 0.0) / _RECORDS, max(read, 0.0) / _RECORDS


def checksum_line(lines: Sequence[Line], value_bytes: int) -> str:
    """For the report; with the share of a put, where one was measured with its processor time."""
    write, read = seconds_a_record(value_bytes)
    text = f"CRC-32C of a record with {value_bytes} bytes: {write * 1e6:.2f} µs to write, "
    text += f"{read * 1e6:.2f} µs to read from the file"
    for line in lines:
        if line.workload.name == "put, 256 in flight" and line.ours.cpu is not None:
            text += f"; {write / line.ours.cpu[0]:.1%} of the leader's processor time for a put with 256 in flight"
    return text


def _written_plainly(records: Sequence[Record]) -> list[Record]:
    """`protect` without the checksum: the value is copied as well."""
    suffix = bytes(CRC_BYTES)
    return [(key, value + suffix) for key, value in records]


def _read_plainly(stored: Sequence[Record]) -> list[Record]:
    return [(key, value[:-CRC_BYTES]) for key, value in stored]


def _least(clock: Clock, work: Callable[[], object]) -> float:
    """Processor seconds of the quickest round."""
    return min(_timed(clock, work) for _ in range(_ROUNDS))


def _timed(clock: Clock, work: Callable[[], object]) -> float:
    began = clock()
    work()
    return clock() - began
