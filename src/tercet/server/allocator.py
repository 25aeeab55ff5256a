"""Keeps glibc's heap small, because protobuf gives all free memory of it back to the system now and then.

After each 10,000 messages protobuf calls malloc_trim (upb's python/protobuf.c). That takes as long as much of the heap is free:
46 ms of processor time, on a busy machine 0.4 s, for the 380 MB that 150 values of 1 MB left in log and buffers, all in one
turn of the event loop. So large blocks are mapped on their own: each is given back when it is freed. By itself glibc does so
only up to the size of the largest mapped block that has been freed.

Other C libraries have no mallopt, and protobuf does not trim there.
"""

from __future__ import annotations

import ctypes
from typing import Final

_M_TRIM_THRESHOLD: Final = -1  # malloc.h
_M_MMAP_THRESHOLD: Final = -3
MAPPED_BYTES: Final = 256 << 10  # blocks from this size on
_TOP_BYTES: Final = 16 << 20  # of free memory at the end of the heap are kept; 128 KiB would be, now that the other is set


def map_large_blocks() -> None:
    """Of the whole process. Without effect where the C library is not glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, MAPPED_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _TOP_BYTES)
