"""The console scripts: an interrupt before a program has loaded ends it by the signal, without a traceback."""

from __future__ import annotations

import signal
from collections.abc import Callable
from importlib import import_module


def tercet() -> int:
    return _load_and_run("tercet.cli.tercet")


def tercetctl() -> int:
    return _load_and_run("tercet.cli.tercetctl")


def tercetutl() -> int:
    return _load_and_run("tercet.cli.tercetutl")


def _load_and_run(module: str) -> int:
    """Run `main` of the module. Returns the exit code."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:  # else it is ignored, as in a background job of a script
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    main: Callable[[], int] = import_module(module).main
    signal.signal(signal.SIGINT, handler)
    return main()
