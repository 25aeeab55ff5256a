"""/debug/vars: Go's expvar page, with the corresponding numbers of a Python process."""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import threading
from collections.abc import Mapping

RaftStatus = Mapping[str, object]
"""id, term, vote, commit, lead, raftState, applied, progress, leadtransferee: ids as hexadecimal text."""


def debug_vars(raft_status: RaftStatus) -> bytes:
    values = {
        "cmdline": sys.orig_argv,
        "file_descriptor_limit": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "memstats": _memory(),
        "raft.status": raft_status,
    }
    rows = ",\n".join(f"{json.dumps(name)}: {json.dumps(value, separators=(',', ':'))}" for name, value in values.items())
    return f"{{\n{rows}\n}}\n".encode()


def _memory() -> dict[str, int]:
    """Alloc: bytes resident; Sys: bytes mapped; NumGC: collections of all generations. Without /proc the first two are 0, and
    only Python's threads count.
    """
    collections = sum(int(generation["collections"]) for generation in gc.get_stats())
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            mapped, resident = (int(number) * resource.getpagesize() for number in file.read().split()[:2])
        threads = len(os.listdir("/proc/self/task"))
    except FileNotFoundError:
        mapped, resident, threads = 0, 0, threading.active_count()
    return {"Alloc": resident, "Sys": mapped, "NumGC": collections, "NumThread": threads}
