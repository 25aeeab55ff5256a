"""A server in a process from which the names that only Linux has were taken, as on macOS.

python -m tests.support.without_linux --data-dir ...        # the arguments of `tercet server`
"""

from __future__ import annotations

import builtins
import io
import os
import socket
import sys
from typing import Any

_ABSENT = ((os, ("fdatasync", "posix_fallocate", "sched_getaffinity", "waitid")), (socket, ("SOCK_CLOEXEC", "SOCK_NONBLOCK")))


def take_away() -> None:
    """For the rest of this process."""
    for module, names in _ABSENT:
        for name in names:
            delattr(module, name)
    if sys.version_info >= (3, 13):  # defined by sched_getaffinity, and by cpu_count where there is none
        os.process_cpu_count = os.cpu_count
    for owner, name in ((builtins, "open"), (io, "open"), (os, "listdir")):
        setattr(owner, name, _without_proc(getattr(owner, name)))


def _without_proc(function: Any) -> Any:
    def refuse_proc(path: Any = ".", *arguments: Any, **named: Any) -> Any:
        if str(path).startswith("/proc"):
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return function(path, *arguments, **named)

    return refuse_proc


if __name__ == "__main__":
    take_away()
    from tercet.server.main import main

    sys.exit(main(sys.argv[1:]))
