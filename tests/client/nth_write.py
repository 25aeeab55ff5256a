"""A member whose n-th write is lost on the way, or comes while its caller is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import cast

from tercet.errors import Code
from tercet.rpc import Handler, Kind, RpcError, UnaryCall, UnaryHandler
from tercet.rpc.in_process import InProcessUnaryCall, OpenCalls

_WRITES = {"Put", "DeleteRange", "Txn", "LeaseGrant", "LeaseRevoke"}
_LOST = "error reading from server: EOF"
_LATE_SECONDS = 0.05
FAULTS = ("not begun", "answer lost", "cancelled before", "cancelled after")


class NthWrite:
    """`wrap` is for Cluster(wrap_handlers=...). After `arm` the n-th write of any client meets the fault.

    not begun, answer lost: the client cannot know which. cancelled: `on_cancel` is called in the member's thread before the
    write is begun, or when it is done; the answer comes later.
    """

    def __init__(self) -> None:
        self._fault = ""
        self._left = 0
        self._on_cancel: Callable[[], object] = lambda: None
        self._tasks: set[asyncio.Task[None]] = set()

    def arm(self, number: int, fault: str, on_cancel: Callable[[], object]) -> None:
        self._left, self._fault, self._on_cancel = number, fault, on_cancel

    @property
    def is_met(self) -> bool:
        return self._left <= 0

    def wrap(self, member: str, handlers: dict[str, Handler]) -> dict[str, Handler]:
        return {path: self._wrapped(path, handler) for path, handler in handlers.items()}

    def _wrapped(self, path: str, handler: Handler) -> Handler:
        if handler.kind is not Kind.UNARY or path.rpartition("/")[2] not in _WRITES:
            return handler
        return Handler(handler.kind, partial(self._write, cast(UnaryHandler, handler.call)))

    def _write(self, handle: UnaryHandler, call: UnaryCall, message: bytes) -> None:
        self._left -= 1
        if self._left:
            handle(call, message)
        elif self._fault == "not begun":
            call.fail(Code.UNAVAILABLE, _LOST)
        else:
            task = asyncio.get_running_loop().create_task(self._meet(handle, call, message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _meet(self, handle: UnaryHandler, call: UnaryCall, message: bytes) -> None:
        if self._fault == "cancelled before":
            self._on_cancel()
            await asyncio.sleep(_LATE_SECONDS)
        inner = InProcessUnaryCall(call.method, call.headers, call.peer, OpenCalls())
        handle(inner, message)
        try:
            answer = await inner.outcome
        except RpcError as error:
            call.fail(error.code, error.message)
            return
        if self._fault == "answer lost":
            call.fail(Code.UNAVAILABLE, _LOST)
            return
        if self._fault == "cancelled after":
            self._on_cancel()
            await asyncio.sleep(_LATE_SECONDS)
        call.reply(answer)
