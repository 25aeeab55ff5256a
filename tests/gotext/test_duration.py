"""Durations as Go's time package reads and prints them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.gotext.duration import format_duration, parse_duration


@given(st.integers(min_value=-(10**18), max_value=10**18))
def test_durations_round_trip(nanoseconds: int) -> None:
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("5s", 5 * 10**9),
        ("1.5h", 5400 * 10**9),
        ("1h2m3s4ms5us6ns", 3723004005006),
        ("-.5s", -500_000_000),
        ("1µs", 1000),
    ],
)
def test_durations(text: str, nanoseconds: int) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "5", "s", "1x", ".s", "1s2", "--1s", "9999999999h", "1s ", "٣s"])
def test_invalid_durations(text: str) -> None:
    with pytest.raises(ValueError, match="time: "):
        parse_duration(text)


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1500, "1.5µs"),
        (100 * 10**6, "100ms"),
        (7200 * 10**9, "2h0m0s"),
        (90 * 10**9, "1m30s"),
        (-(10**9), "-1s"),
    ],
)
def test_durations_as_go_prints_them(nanoseconds: int, text: str) -> None:
    assert format_duration(nanoseconds) == text
