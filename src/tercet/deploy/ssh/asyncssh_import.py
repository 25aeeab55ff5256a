"""Imports asyncssh without linking test programs.

asyncssh asks ctypes for liboqs and libnettle. ctypes asks ldconfig; for a library that ldconfig does not know, it runs gcc and
ld, nine processes at the start of each command for a library that few have installed. Here only ldconfig is asked.
"""

from __future__ import annotations

import contextlib
import ctypes.util
from collections.abc import Iterator


@contextlib.contextmanager
def _ldconfig_only() -> Iterator[None]:
    original = ctypes.util.find_library
    ctypes.util.find_library = getattr(ctypes.util, "_findSoname_ldconfig", original)  # of CPython on Linux
    try:
        yield
    finally:
        ctypes.util.find_library = original


with _ldconfig_only():
    import asyncssh as asyncssh
