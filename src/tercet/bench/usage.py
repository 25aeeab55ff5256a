"""Processor time and wake-ups of a process, from /proc.

A wake-up is a voluntary context switch: a thread went to sleep and will be woken. Sampled over all threads that exist at
both ends; a thread that ends in between is missed, which for these servers is rare.
Source: proc(5), /proc/PID/stat fields 14 and 15, /proc/PID/task/TID/status.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """What a process has used since it started. cpu_seconds: user and system."""

    cpu_seconds: float
    wakeups: int

    def __sub__(self, earlier: Usage) -> Usage:
        return Usage(self.cpu_seconds - earlier.cpu_seconds, self.wakeups - earlier.wakeups)


def usage_of(pid: int) -> Usage:
    """Usage of `pid` up to now. Raises OSError if there is no such process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    return Usage(ticks / _TICKS_PER_SECOND, sum(_wakeups(task) for task in Path(f"/proc/{pid}/task").iterdir()))


def _wakeups(task: Path) -> int:
    try:
        text = (task / "status").read_text()
    except OSError:  # the thread has just ended
        return 0
    line = next(line for line in text.splitlines() if line.startswith("voluntary_ctxt_switches"))
    return int(line.split()[1])
