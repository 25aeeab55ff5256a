"""Hooks: what a client does, as pairs of events that a tracer or a counter can follow.

    connect.started   connect.complete   connect.failed     endpoint, error
    call.started      call.complete      call.failed        method, endpoint, attempt, error: one pair for each attempt
    login.started     login.complete     login.failed       user, endpoint, error

`call` is a unary call, or the opening of a stream. The second event of a pair has `seconds`, the time since the first. Keys and
values are not among the information. otel.py and prometheus.py are hooks.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tercet.errors import StatusError

logger = logging.getLogger("tercet.client")

OnEvent = Callable[[str, dict[str, object]], object]
ResultT = TypeVar("ResultT")


class Events:
    """Calls the hook. It is called in the event loop's thread, and should return soon."""

    def __init__(self, hook: OnEvent | None) -> None:
        self._hook = hook

    @property
    def has_hook(self) -> bool:
        return self._hook is not None

    async def around(self, what: str, work: Awaitable[ResultT], **info: object) -> ResultT:
        """Await `work` between a pair of events."""
        if self._hook is None:
            return await work
        self._emit(f"{what}.started", info)
        began = time.monotonic()
        try:
            result = await work
        except BaseException as error:
            self._emit(f"{what}.failed", {**info, "seconds": time.monotonic() - began, "error": error})
            raise
        self._emit(f"{what}.complete", {**info, "seconds": time.monotonic() - began})
        return result

    def _emit(self, name: str, info: dict[str, object]) -> None:
        assert self._hook is not None
        try:
            self._hook(name, dict(info))
        except Exception:
            logger.exception("the hook on_event failed at %s", name)


def code_name(error: object) -> str:
    """The name of the gRPC status of an event's error: "OK" without one."""
    if error is None:
        return "OK"
    if isinstance(error, StatusError):
        return error.code.name
    return "CANCELLED" if isinstance(error, asyncio.CancelledError) else "UNKNOWN"
