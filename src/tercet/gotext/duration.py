"""Durations as Go writes and reads them: `100ms`, `1m30s`, `2h0m0s`.

Unit files, environment variables and config files hold Go durations, and error texts print them back, so both directions follow
Go's `time` package. A duration is an int of nanoseconds here; the configuration hands it out in seconds.
"""

from __future__ import annotations

import re

NANOSECONDS = {"ns": 1, "us": 1_000, "µs": 1_000, "μs": 1_000, "ms": 1_000_000, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_PART = re.compile(r"(\d*)(?:\.(\d*))?(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_NANOSECONDS_MAX = (1 << 63) - 1


def parse_duration(text: str) -> int:
    """Nanoseconds of a Go duration string; a bare `0` needs no unit.

    Raises ValueError with Go's text, e.g. `time: invalid duration "xx"`.
    """
    sign, rest = (-1 if text[0] == "-" else 1, text[1:]) if text[:1] in ("-", "+") else (1, text)
    if rest == "0":
        return 0
    if not rest:
        raise ValueError(f'time: invalid duration "{text}"')
    total = position = 0
    while position < len(rest):
        part = _PART.match(rest, position)
        if part is None or not (part[1] or part[2]):
            raise ValueError(_complaint(text, rest[position:]))
        unit = NANOSECONDS[part[3]]
        total += int(part[1] or 0) * unit
        if part[2]:
            total += int(part[2]) * unit // 10 ** len(part[2])
        position = part.end()
    if total > _NANOSECONDS_MAX:
        raise ValueError(f'time: invalid duration "{text}"')
    return sign * total


def _complaint(text: str, rest: str) -> str:
    """Go tells a number without a unit, and one with a unit it does not know, from plain nonsense."""
    number = re.match(r"\d+\.?\d*|\.\d+", rest)
    if number is None:
        return f'time: invalid duration "{text}"'
    unit = re.match(r"[^.\d]*", rest[number.end() :])
    if unit is None or not unit[0]:
        return f'time: missing unit in duration "{text}"'
    return f'time: unknown unit "{unit[0]}" in duration "{text}"'


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
