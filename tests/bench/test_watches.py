"""The comparison of watches, with etcd and a short run: every event of every put is counted."""

from __future__ import annotations

from pathlib import Path

from tercet.bench.arena import etcd_system
from tercet.bench.load import Extent
from tercet.bench.watches import LOADS, Outcome, WatchLoad, measure, rows
from tests.client.member import run


def test_each_event_is_counted(tmp_path: Path) -> None:
    load = WatchLoad("few", 150, LOADS[2].create, keys=50, per_put=150, silent=10)
    for attempt in range(5):
        outcome = run(measure(etcd_system(), load, tmp_path / f"etcd{attempt}", Extent(seconds=0.5, warmup=0.1)))
        if outcome.puts_per_second:  # else the member was paused for all of the time
            break
    assert outcome.events_per_second > 0
    assert outcome.puts_per_second > 0


def test_the_table_says_which_is_better() -> None:
    theirs, ours = Outcome(100.0, 10.0, 0.2, 2e-6, 2048.0), Outcome(300.0, 20.0, 0.1, 1e-6, 1024.0)
    assert [row[1:] for row in rows(LOADS[0], [theirs], [ours])] == [
        ["100.0/s", "300.0/s", "3.00"],
        ["10.0/s", "20.0/s", "2.00"],
        ["200.0 ms", "100.0 ms", "2.00"],
        ["2.0 µs", "1.0 µs", "2.00"],
        ["2.0 KiB", "1.0 KiB", "2.00"],
    ]
