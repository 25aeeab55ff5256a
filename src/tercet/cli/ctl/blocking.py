"""Reads that block the event loop: prompts, and input that a command needs before it does anything else.

asyncio only notes a SIGINT and cancels the command at its next step, so that Ctrl-C during such a read would do nothing.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interruptible() -> Iterator[None]:
    """Inside the block SIGINT raises KeyboardInterrupt at once, as without an event loop."""
    if threading.current_thread() is not threading.main_thread():  # which alone receives signals
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
