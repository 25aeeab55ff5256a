"""The policies of automatic compaction, over simulated hours."""

from __future__ import annotations

import pytest

from tercet.errors import ConfigError
from tercet.replica.auto_compaction import AutoCompaction, make_auto_compaction, parse_retention

HOUR, MINUTE = 3600, 60


def run(policy: AutoCompaction, until: float, *, fails_at: tuple[float, ...] = ()) -> list[tuple[float, int]]:
    """(minute, revision) of each compaction, for a store whose revision is the minutes that have passed."""
    due = []
    while (now := policy.next_seconds) <= until:
        target = policy.due(now, int(now / MINUTE))
        if target is not None:
            due.append((round(now / MINUTE), target))
            if round(now / MINUTE) not in fails_at:
                policy.compacted(now, target)
    return due


def make(mode: str, retention: str) -> AutoCompaction:
    policy = make_auto_compaction(mode, retention, 0.0, 1)
    assert policy is not None
    return policy


def test_c6_one_hour_is_kept_and_compacted_hourly() -> None:
    assert run(make("periodic", "1"), 3 * HOUR) == [(60, 1), (120, 54), (180, 114)]


def test_c6_a_long_retention_passes_once_then_compacts_hourly() -> None:
    due = run(make("periodic", "24h"), 27 * HOUR)
    assert due == [(1440, 1), (1500, 54), (1560, 114), (1620, 174)]


def test_c6_a_short_retention_is_its_own_interval() -> None:
    due = run(make("periodic", "20m"), HOUR)
    assert due == [(20, 1), (40, 18), (60, 38)]


def test_c6_a_failed_compaction_is_due_at_the_next_sample() -> None:
    assert run(make("periodic", "1h"), 1.5 * HOUR, fails_at=(60,)) == [(60, 1), (66, 1)]


def test_an_idle_store_is_not_compacted_again() -> None:
    policy = make("periodic", "1")
    due = []
    while (now := policy.next_seconds) <= 5 * HOUR:
        if (target := policy.due(now, 77)) is not None:
            due.append(target)
            policy.compacted(now, target)
    assert due == [1, 77]


def test_c6_revisions_are_checked_every_five_minutes() -> None:
    due = run(make("revision", "12"), 30 * MINUTE)
    assert due == [(15, 3), (20, 8), (25, 13), (30, 18)]


def test_a_revision_is_due_again_only_after_a_failure() -> None:
    policy = make("revision", "10")
    due = []
    for turn in range(1, 6):
        target = policy.due(turn * 300, 50)
        due.append(target)
        if turn == 2:
            policy.compacted(turn * 300, 40)
    assert due == [40, 40, None, None, None]


def test_nothing_is_due_before_next_seconds() -> None:
    for policy in (make("periodic", "1"), make("revision", "1")):
        assert policy.due(policy.next_seconds - 1, 100) is None


@pytest.mark.parametrize("mode", ["periodic", "revision"])
@pytest.mark.parametrize("retention", ["", "0", "0h", "0s"])
def test_zero_retention_is_off(mode: str, retention: str) -> None:
    assert make_auto_compaction(mode, retention, 0.0, 1) is None


@pytest.mark.parametrize(
    ("mode", "retention", "amount"),
    [
        ("periodic", "5", 5 * HOUR * 10**9),
        ("periodic", "+5", 5 * HOUR * 10**9),
        ("periodic", "1h30m", 90 * MINUTE * 10**9),
        ("periodic", "1.5h", 90 * MINUTE * 10**9),
        ("periodic", ".5s", 500_000_000),
        ("periodic", "+1m", 60 * 10**9),
        ("periodic", "3ms2us1ns", 3_002_001),
        ("periodic", "1µs", 1000),
        ("revision", "1000", 1000),
        ("revision", "1us", 1000),
    ],
)
def test_retention_is_parsed_as_by_etcd(mode: str, retention: str, amount: int) -> None:
    assert parse_retention(mode, retention) == amount


@pytest.mark.parametrize(
    ("mode", "retention", "text"),
    [
        ("", "1", "undefined auto-compaction-mode"),
        ("sometimes", "1", 'unknown auto-compaction-mode "sometimes"'),
        ("periodic", "xx", 'error parsing CompactionRetention: time: invalid duration "xx"'),
        ("periodic", "1h-", 'error parsing CompactionRetention: time: unknown unit "h-" in duration "1h-"'),
        ("periodic", "1.5", 'error parsing CompactionRetention: time: missing unit in duration "1.5"'),
        ("revision", "1d", 'error parsing CompactionRetention: time: unknown unit "d" in duration "1d"'),
        ("periodic", "-1h", 'error parsing CompactionRetention: "-1h" is out of range'),
        ("periodic", "9999999999999999999", 'error parsing CompactionRetention: "9999999999999999999" is out of range'),
    ],
)
def test_an_invalid_retention_is_reported(mode: str, retention: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_retention(mode, retention)
    assert str(caught.value) == text
