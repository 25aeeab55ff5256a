"""The process of a member: reads the configuration, runs until a signal or a failure, exits with etcd's code.

Source: etcd server/etcdmain/etcd.go, for exit codes, signals and the log lines that scripts look for.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

import uvloop

from tercet.config.load import load
from tercet.config.server_config import ServerConfig
from tercet.config.startup_error import StartupError, warn
from tercet.errors import ConfigError, ListenerError, StorageFailure
from tercet.log_fields import fields
from tercet.server.allocator import map_large_blocks
from tercet.server.default_host import default_host
from tercet.server.listener import log_loop_error
from tercet.server.logs import zap_format
from tercet.server.member_server import MemberServer
from tercet.server.time_slice import shorten_time_slices

logger = logging.getLogger(__name__)

_DESCRIPTORS_OF_MACOS: Final = 10_240  # its hard limit is none, and it refuses a soft limit above this (OPEN_MAX)
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
# A thread that returns from fdatasync waits at most this long for the GIL; the default is 5 ms.
_SWITCH_SECONDS: Final = 0.0005
# Objects of a request are freed by reference counting, and most stored data is not tracked by the collector: collect rarely.
# A collection visits at most 10,000 new objects, or 20,000 in each second one, so that it takes milliseconds of a turn. One of
# all objects, which takes a second where 100,000 streams are open, comes after 1,000 million more, and only where their number
# has grown by a quarter: what clients can make a member allocate is freed without it (tests/services/test_freed_calls.py).
GC_THRESHOLDS: Final = (10_000, 1, 50_000)


def main(arguments: Sequence[str]) -> int:
    """Run a member with etcd's flags. arguments: without the program's name. Returns the exit code."""
    try:
        loaded = load(arguments, os.environ, find_default_host=default_host)
    except StartupError as refusal:
        return zap_format.report(refusal)
    try:
        zap_format.configure(loaded.settings)
    except ConfigError as error:
        lines = (*loaded.lines, warn("failed to verify flags", error=str(error)))
        return zap_format.report(StartupError(str(error), lines=lines))
    zap_format.write_lines(loaded.lines)
    sys.setswitchinterval(_SWITCH_SECONDS)
    map_large_blocks()
    shorten_time_slices()
    _allow_descriptors()
    gc.set_threshold(*GC_THRESHOLDS)
    gc.freeze()  # what imports made stays: the first collection would visit all of it
    gc.enable()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        ended_by = runner.run(_run(loaded.config))
    if isinstance(ended_by, signal.Signals):
        # Exit by the same signal, so that the parent sees it. PID 1 has no default action for signals.
        if os.getpid() != 1:
            signal.signal(ended_by, signal.SIG_DFL)
            os.kill(os.getpid(), ended_by)
        return 0
    return ended_by


def _allow_descriptors() -> None:
    """Open as many files and connections as the hard limit allows, as programs in Go do; the soft one is often 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in (hard, max(soft, _DESCRIPTORS_OF_MACOS)):
        with contextlib.suppress(ValueError, OSError):  # a system may refuse a soft limit without bound
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            return


async def _run(config: ServerConfig) -> int | signal.Signals:
    """Run the member. Returns the signal that stopped it, or an exit code."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(log_loop_error)
    ended: asyncio.Future[int | signal.Signals] = loop.create_future()

    def end(reason: int | signal.Signals) -> None:
        if not ended.done():
            ended.set_result(reason)

    def on_failure(error: BaseException) -> None:
        detail = None if isinstance(error, StorageFailure | ConfigError | OSError) else error
        logger.critical("stopping the member after a failure: %s", error, exc_info=detail)
        end(1)

    def on_removed() -> None:
        logger.warning("server error", extra=fields(error="the member has been permanently removed from the cluster"))
        logger.warning("data-dir used by this member must be removed")
        end(0)

    server = MemberServer(config, on_failure=on_failure, on_removed=on_removed)
    # Before the start, which waits for a quorum.
    for number in _SIGNALS:
        loop.add_signal_handler(number, _received, number, end)
    starting = asyncio.ensure_future(server.start())
    refusal: ConfigError | StorageFailure | None = None
    try:
        first: set[asyncio.Future[Any]] = {starting, ended}
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            gc.freeze()  # without a collection: it would hold up the first requests, and start leaves little garbage
            await ended
    except (ConfigError, StorageFailure) as error:
        refusal = error
        end(1)
    finally:
        starting.cancel()
        await asyncio.wait([starting])
        await server.stop()
    if refusal is not None:
        text = "listener failed" if isinstance(refusal, ListenerError) else "discovery failed"
        logger.critical(text, extra=fields(error=str(refusal)))  # the last line, which whoever looks reads first
    return ended.result()


def _received(number: signal.Signals, end: Callable[[signal.Signals], None]) -> None:
    logger.info("received signal; shutting down", extra=fields(signal=(signal.strsignal(number) or number.name).lower()))
    end(number)
