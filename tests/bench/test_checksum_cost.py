"""`make bench` says what the checksum of a record costs."""

from __future__ import annotations

import re

import pytest

from tercet.bench.checksum_cost import checksum_line, seconds_a_record
from tercet.bench.report import Line, Rate
from tercet.bench.workloads import WORKLOADS


class ScriptedClock:
    """Each loop, with and without the checksum, takes rounds of these lengths in turn; anything else takes no time."""

    def __init__(self, loops: list[list[float]]) -> None:
        self.rounds = iter([seconds for rounds in loops for seconds in rounds])
        self.now = 0.0
        self.is_running = False

    def __call__(self) -> float:
        if self.is_running:
            self.now += next(self.rounds)
        self.is_running = not self.is_running
        return self.now


def test_the_cost_is_the_difference_of_the_quickest_rounds() -> None:
    """Two measured times are not compared here: which one is longer is the machine's affair on some day."""
    loops = [[9.0, *[7.0] * 18, 8.0], [3.0] * 20, [5.0] * 20, [6.0] * 19 + [1.0]]
    write, read = seconds_a_record(1, ScriptedClock(loops))
    assert (write, read) == (pytest.approx(4.0 / 2000), pytest.approx(4.0 / 2000))


def test_a_loop_that_was_quicker_with_the_checksum_costs_nothing() -> None:
    assert seconds_a_record(1, ScriptedClock([[2.0] * 20, [3.0] * 20] * 2)) == (0.0, 0.0)


def test_the_line_has_the_share_of_a_put_where_one_was_measured() -> None:
    put = next(workload for workload in WORKLOADS if workload.name == "put, 256 in flight")
    cost = r"CRC-32C of a record with 256 bytes: \d+\.\d\d µs to write, \d+\.\d\d µs to read from the file"
    assert re.fullmatch(cost, checksum_line([], 256))
    lines = [Line(put, Rate(1.0), Rate(1.0, cpu=(20e-6, 10e-6)))]
    assert re.fullmatch(
        cost + r"; \d+\.\d% of the leader's processor time for a put with 256 in flight", checksum_line(lines, 256)
    )
