"""Metrics of this process from /proc, as Go's process collector reads them.

Source: proc(5); github.com/prometheus/client_golang process_collector.
"""

from __future__ import annotations

import contextlib
import os
import resource
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
# Fields of /proc/self/stat, counted from the one after the command name.
_UTIME, _STIME, _THREADS, _STARTTIME, _VSIZE, _RSS = 11, 12, 17, 19, 20, 21


def read_process() -> dict[str, float]:
    """Values by metric name; without those that this system does not tell."""
    values: dict[str, float] = {
        "process_max_fds": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "process_virtual_memory_max_bytes": _unlimited_is_max(resource.getrlimit(resource.RLIMIT_AS)[0]),
    }
    with contextlib.suppress(OSError, ValueError, IndexError):
        stat = (_PROC / "self" / "stat").read_text().rpartition(") ")[2].split()
        values["process_cpu_seconds_total"] = (int(stat[_UTIME]) + int(stat[_STIME])) / _TICKS
        values["go_threads"] = int(stat[_THREADS])
        values["process_virtual_memory_bytes"] = int(stat[_VSIZE])
        values["process_resident_memory_bytes"] = int(stat[_RSS]) * _PAGE_BYTES
        values["process_start_time_seconds"] = _boot_seconds() + int(stat[_STARTTIME]) / _TICKS
    with contextlib.suppress(OSError):
        values["process_open_fds"] = len(os.listdir(_PROC / "self" / "fd")) - 1  # listdir itself holds one
    with contextlib.suppress(OSError, ValueError, IndexError):
        received, sent = _network_bytes()
        values["process_network_receive_bytes_total"] = received
        values["process_network_transmit_bytes_total"] = sent
    return values


def _unlimited_is_max(limit: int) -> int:
    return (1 << 64) - 1 if limit == resource.RLIM_INFINITY else limit


def _boot_seconds() -> int:
    for line in (_PROC / "stat").read_text().splitlines():
        if line.startswith("btime "):
            return int(line.split()[1])
    raise ValueError("/proc/stat has no btime")


def _network_bytes() -> tuple[int, int]:
    """(received, sent) by IP, of the process's network namespace."""
    names, numbers = [
        line.split() for line in (_PROC / "self" / "net" / "netstat").read_text().splitlines() if "IpExt:" in line
    ]
    found = dict(zip(names, numbers, strict=True))
    return int(found["InOctets"]), int(found["OutOctets"])
