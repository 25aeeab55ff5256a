"""Histograms of durations, and which reads are timed."""

from __future__ import annotations

from tercet.replica.durations import APPLY_BOUNDS, REQUEST_BOUNDS, Durations
from tercet.services.read_timing import ReadDurations


def test_a_duration_is_counted_in_the_bucket_whose_bound_it_does_not_exceed() -> None:
    durations = Durations((1.0, 2.0, 4.0))
    for seconds in (0.5, 1.0, 1.5, 4.0, 5.0):
        durations.observe("put", True, seconds)
    durations.observe("put", False, 3.0, weight=2)
    assert durations.histograms() == [("put", True, [2, 1, 1, 1], 12.0), ("put", False, [0, 0, 2, 0], 6.0)]


def test_bounds_are_etcds() -> None:
    assert (APPLY_BOUNDS[0], len(APPLY_BOUNDS), round(APPLY_BOUNDS[-1], 4)) == (0.0001, 20, 52.4288)
    assert (REQUEST_BOUNDS[0], len(REQUEST_BOUNDS), round(REQUEST_BOUNDS[-1], 3)) == (0.001, 14, 8.192)


def test_of_many_reads_a_few_are_timed_and_the_count_is_right() -> None:
    durations = ReadDurations()
    timed = 0
    for _ in range(1024 + 1600):
        timing = durations.begin("Range")
        if timing is not None:
            timed += 1
            timing.reads()
            timing.ended(is_success=True)
    assert timed == 1024 + 100
    ((_, is_success, counts, _),) = durations.requests.histograms()
    assert (is_success, sum(counts)) == (True, 1024 + 1600)
    ((_, _, counts, _),) = durations.ranges.histograms()
    assert sum(counts) == 1024 + 1600
