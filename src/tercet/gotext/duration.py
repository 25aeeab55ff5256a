"""Durations as Go writes and reads them: `100ms`, `1m30s`, `2h0m0s`. A duration is an int of nanoseconds.

Source: time.ParseDuration, time.Duration.String.
"""

from __future__ import annotations

import re

NANOSECONDS = {"ns": 1, "us": 1_000, "µs": 1_000, "μs": 1_000, "ms": 1_000_000, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)([^0-9.]*)")
_NANOSECONDS_MAX = (1 << 63) - 1
_DIGITS_MAX = 1000  # Python refuses to convert more than some thousands


def parse_duration(text: str) -> int:
    """Nanoseconds of a Go duration string; a bare `0` needs no unit.

    Raises ValueError with Go's text, e.g. `time: invalid duration "xx"`.
    """
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0
    total = position = 0
    while position < len(rest):
        part = _PART.match(rest, position)
        if part is None:
            break
        number, unit = part.groups()
        whole, _, fraction = number.partition(".")
        if len(whole) > _DIGITS_MAX or int(whole or 0) > 1 << 63:
            break
        if not unit:
            raise ValueError(f'time: missing unit in duration "{text}"')
        if unit not in NANOSECONDS:
            raise ValueError(f'time: unknown unit "{unit}" in duration "{text}"')
        total += int(whole + fraction) * NANOSECONDS[unit] // 10 ** len(fraction)
        position = part.end()
    if not rest or position < len(rest) or total > _NANOSECONDS_MAX:
        raise ValueError(f'time: invalid duration "{text}"')
    return -total if text[0] == "-" else total


def format_duration(nanoseconds: int) -> str:
    """What Go prints for a duration: `0s`, `1.5ms`, `1m30s`, `2h0m0s`."""
    sign, rest = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if rest == 0:
        return "0s"
    if rest < 10**9:
        unit = next(name for name in ("ms", "µs", "ns") if rest >= NANOSECONDS[name])
        return f"{sign}{_decimal(rest, NANOSECONDS[unit])}{unit}"
    minutes, nanos = divmod(rest, NANOSECONDS["m"])
    hours, minutes = divmod(minutes, 60)
    seconds = _decimal(nanos, 10**9)
    if hours:
        return f"{sign}{hours}h{minutes}m{seconds}s"
    return f"{sign}{minutes}m{seconds}s" if minutes else f"{sign}{seconds}s"


def format_seconds(seconds: float) -> str:
    return format_duration(round(seconds * 1e9))


def _decimal(nanoseconds: int, unit: int) -> str:
    whole, fraction = divmod(nanoseconds, unit)
    if not fraction:
        return str(whole)
    digits = len(str(unit)) - 1
    return f"{whole}.{fraction:0{digits}d}".rstrip("0")
