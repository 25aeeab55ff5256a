"""protobuf's malloc_trim takes as long as much of the heap is free, so large blocks must not become free memory of the heap."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

FREED = """
import ctypes
from tercet.server.allocator import map_large_blocks

NAMES = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks free keepcost"

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in NAMES.split()]

def free_bytes():
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = Info
    return libc.mallinfo2().free

map_large_blocks()
bytes(1 << 20)  # from now on glibc by itself would not map blocks of this size
before = free_bytes()
blocks, kept = [], []
for _ in range(64):
    blocks.append(bytes(1 << 20))
    kept.append(bytes(1000))
blocks.clear()
print(free_bytes() - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs glibc 2.33")
def test_large_blocks_that_are_freed_leave_no_free_memory_in_the_heap() -> None:
    done = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) < 8 << 20
