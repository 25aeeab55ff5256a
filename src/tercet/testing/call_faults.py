"""Faults of client calls: the next calls of a method fail, before the member has done anything, or after it has done all.

The second is the answer that is lost on its way: the write has happened, and its client cannot know.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from tercet.errors import Code, StatusError
from tercet.rpc import Handler, Kind, ServerStream, StreamHandler, UnaryCall, UnaryHandler
from tercet.rpc.in_process import InProcessUnaryCall, OpenCalls


@dataclass(slots=True)
class CallFault:
    """method: its name (`Put`) or whole path. times: how many calls are still to fail."""

    method: str
    code: Code
    text: str
    after_commit: bool
    times: int
    failed: int = 0


class CallFaults:
    """The faults of one cluster. Any thread may add and remove them."""

    def __init__(self) -> None:
        self._faults: list[CallFault] = []
        self._lock = threading.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, fault: CallFault) -> None:
        with self._lock:
            self._faults.append(fault)

    def remove(self, fault: CallFault) -> None:
        with self._lock:
            if fault in self._faults:
                self._faults.remove(fault)

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def wrap(self, member: str, handlers: dict[str, Handler]) -> dict[str, Handler]:
        """The same methods with faults. member: unused, since faults are the cluster's."""
        return {path: self._wrapped(path, handler) for path, handler in handlers.items()}

    def _wrapped(self, path: str, handler: Handler) -> Handler:
        if handler.kind is Kind.UNARY:
            return Handler(handler.kind, partial(self._unary, path, cast(UnaryHandler, handler.call)))
        return Handler(handler.kind, partial(self._stream, path, cast(StreamHandler, handler.call)))

    def _take(self, path: str) -> CallFault | None:
        """The fault of this call."""
        if not self._faults:
            return None
        name = path.rpartition("/")[2]
        with self._lock:
            for fault in self._faults:
                if fault.method in (name, path):
                    fault.times -= 1
                    fault.failed += 1
                    if not fault.times:
                        self._faults.remove(fault)
                    return fault
        return None

    def _unary(self, path: str, handle: UnaryHandler, call: UnaryCall, message: bytes) -> None:
        fault = self._take(path)
        if fault is None:
            handle(call, message)
        elif not fault.after_commit:
            call.fail(fault.code, fault.text)
        else:
            task = asyncio.get_running_loop().create_task(_lose_answer(fault, handle, call, message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _stream(self, path: str, handle: StreamHandler, stream: ServerStream) -> Coroutine[Any, Any, None]:
        fault = self._take(path)
        return handle(stream) if fault is None else _refuse(fault)


async def _lose_answer(fault: CallFault, handle: UnaryHandler, call: UnaryCall, message: bytes) -> None:
    """Do what the call asks for, and answer with the fault."""
    inner = InProcessUnaryCall(call.method, call.headers, call.peer, OpenCalls())
    try:
        handle(inner, message)
        await inner.outcome
    except Exception as error:  # its own error is an answer that is lost as well
        del error
    call.fail(fault.code, fault.text)


async def _refuse(fault: CallFault) -> None:
    raise StatusError(fault.code, fault.text)
