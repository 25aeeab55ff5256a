"""Asks Linux for short time slices: a member that wakes up then waits less for the programs that keep the processors busy.

Since Linux 6.12 a thread may ask for slices of its own length. A shorter one does not get more of a processor, it gets its part
sooner: a thread that wakes up for a request or from the disk comes before those whose slices end later. A put passes through
several such wake-ups, a heartbeat through one.
Source: sched(7), sched_setattr(2); Linux kernel/sched/fair.c.
"""

from __future__ import annotations

import ctypes
import os
import sys
from struct import Struct
from typing import Final

SLICE_NANOSECONDS: Final = 300_000  # the default is 0.7 ms and more, by the number of processors

# The C library has no such functions before glibc 2.41. Numbers of sched_getattr and sched_setattr, for programs of 64 bits.
_NUMBERS: Final = {"x86_64": (315, 314), "aarch64": (275, 274), "riscv64": (275, 274)}
_ATTRIBUTES: Final = Struct("=IIQiIQQQ")  # struct sched_attr: size, policy, flags, nice, priority, runtime, deadline, period
_SCHED_OTHER: Final = 0
_CALLING_THREAD: Final = 0


def shorten_time_slices() -> bool:
    """Of the calling thread and those that it starts. Returns whether it was done.

    Without effect where an operator has chosen another policy or a shorter slice, on older kernels, and where it is not
    allowed.
    """
    system = os.uname()
    numbers = _NUMBERS.get(system.machine)
    if numbers is None or system.sysname != "Linux" or sys.maxsize < 1 << 32:
        return False
    read, write = numbers
    system_call = ctypes.CDLL(None).syscall
    known = ctypes.create_string_buffer(_ATTRIBUTES.size)
    if system_call(read, _CALLING_THREAD, known, _ATTRIBUTES.size, 0):
        return False
    _, policy, flags, nice, priority, runtime, deadline, period = _ATTRIBUTES.unpack(known.raw)
    if policy != _SCHED_OTHER or runtime <= SLICE_NANOSECONDS:  # 0: a kernel that does not know of it
        return False
    wanted = _ATTRIBUTES.pack(_ATTRIBUTES.size, policy, flags, nice, priority, SLICE_NANOSECONDS, deadline, period)
    return not system_call(write, _CALLING_THREAD, ctypes.create_string_buffer(wanted), 0)
