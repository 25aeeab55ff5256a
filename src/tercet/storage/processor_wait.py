"""How long a thread has been ready to run and waited for a processor.

On a busy machine a thread that has waited for the disk then waits for its turn: of the time that a write took, this part says
nothing about the disk.
Source: Linux Documentation/scheduler/sched-stats.rst, /proc/<pid>/schedstat.
"""

from __future__ import annotations

import os
from typing import Final

_PATH: Final = "/proc/thread-self/schedstat"  # nanoseconds on a processor, nanoseconds of waiting for one, time slices
_BYTES_MAX: Final = 80


class ProcessorWait:
    """Of the thread that makes it. Always 0 where the system does not tell."""

    def __init__(self) -> None:
        try:
            self._fd = os.open(_PATH, os.O_RDONLY | os.O_CLOEXEC)
        except (OSError, AttributeError):  # AttributeError: no O_CLOEXEC outside POSIX
            self._fd = -1

    def seconds(self) -> float:
        """Since the thread began. Raises nothing."""
        if self._fd < 0:
            return 0.0
        try:
            return int(os.pread(self._fd, _BYTES_MAX, 0).split()[1]) * 1e-9
        except (OSError, ValueError, IndexError):
            return 0.0

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
