"""`make bench` says what the checksum of a record costs."""

from __future__ import annotations

import re

from tercet.bench.checksum_cost import checksum_line, seconds_a_record
from tercet.bench.report import Line, Rate
from tercet.bench.workloads import WORKLOADS


def test_the_cost_of_a_longer_record_is_higher() -> None:
    """Processor time, the least of several rounds: the factor of 16,000 in length outweighs the noise of a machine."""
    _, short = seconds_a_record(1)
    written, read = seconds_a_record(16 << 10)
    assert written > 0
    assert read > short


def test_the_line_has_the_share_of_a_put_where_one_was_measured() -> None:
    put = next(workload for workload in WORKLOADS if workload.name == "put, 256 in flight")
    cost = r"CRC-32C of a record with 256 bytes: \d+\.\d\d µs to write, \d+\.\d\d µs to read from the file"
    assert re.fullmatch(cost, checksum_line([], 256))
    lines = [Line(put, Rate(1.0), Rate(1.0, cpu=(20e-6, 10e-6)))]
    assert re.fullmatch(
        cost + r"; \d+\.\d% of the leader's processor time for a put with 256 in flight", checksum_line(lines, 256)
    )
