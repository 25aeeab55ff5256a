"""The console scripts: an interrupt before a program has loaded ends it by the signal, without a traceback."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable
from importlib import import_module

# A command's imports make some 30,000 objects that stay; with Python's own 700, collections among them are a tenth of its
# processor time.
_OBJECTS_BETWEEN_COLLECTIONS = 100_000


def tercet() -> int:
    return _load_and_run("tercet.cli.tercet")


def tercetctl() -> int:
    return _load_and_run("tercet.cli.tercetctl")


def tercetutl() -> int:
    return _load_and_run("tercet.cli.tercetutl")


def _load_and_run(module: str) -> int:
    """Run `main` of the module. Returns the exit code."""
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:  # else it is ignored, as in a background job of a script
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    main: Callable[[], int] = import_module(module).main
    signal.signal(signal.SIGINT, handler)
    return main()
