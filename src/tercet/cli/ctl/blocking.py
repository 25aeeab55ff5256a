"""Reads that block the event loop: prompts, and input that a command needs before it does anything else.

asyncio only notes a SIGINT and cancels the command at its next step, so that Ctrl-C during such a read would do nothing.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interruptible(*, restores: bool = False) -> Iterator[None]:
    """Inside the block SIGINT ends the process at once; restores: it raises KeyboardInterrupt, for what must be undone first.

    The exception can come too late: a signal that arrives just before the read is only noted, and the read waits.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone receives signals
        yield
        return
    action: Any = signal.default_int_handler if restores else signal.SIG_DFL
    handler = signal.signal(signal.SIGINT, action)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
