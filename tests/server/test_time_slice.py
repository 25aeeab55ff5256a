"""Short time slices: what the kernel says of the threads of a process that has asked for them."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
import os, threading
from tercet.server import time_slice

def attributes():
    import ctypes
    known = ctypes.create_string_buffer(48)
    number = time_slice._NUMBERS[os.uname().machine][0]
    assert ctypes.CDLL(None).syscall(number, 0, known, 48, 0) == 0
    _, policy, _, nice, _, runtime, _, _ = time_slice._ATTRIBUTES.unpack(known.raw)
    return policy, nice, runtime

os.nice(3)
done = time_slice.shorten_time_slices()
seen = []
thread = threading.Thread(target=lambda: seen.append(attributes()))
thread.start()
thread.join()
print(done, *seen, attributes() if done else None, time_slice.shorten_time_slices(), os.nice(0), sep="; ")
"""


def test_a_process_asks_for_short_slices_and_keeps_its_priority() -> None:
    ran = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    done, thread, process, again, nice = ran.stdout.strip().split("; ")
    assert nice == "3"
    assert again == "False", "a slice that is short already stays"
    if done == "False":
        pytest.skip("this kernel has no slices of a thread's own (Linux 6.12), or does not allow to set them")
    assert thread == process == "(0, 3, 300000)"
