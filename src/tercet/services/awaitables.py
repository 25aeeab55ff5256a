"""Callbacks as coroutines, for calls that are rare or slow. The hot methods are plain functions from request to callback."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from tercet.auth import NOBODY, Identity
from tercet.errors import StatusError
from tercet.intake import intake_of_running_loop
from tercet.mvcc import Answer, whole_answer
from tercet.replica.proposals import Outcome
from tercet.replica.replica import Replica
from tercet.replica.requests import canonical_encoding
from tercet.storage.interfaces import ReadView


async def read_index(replica: Replica) -> None:
    """Wait until local state is linearizable. Raises Unavailable."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    intake = intake_of_running_loop()

    def done(error: StatusError | None) -> None:
        if error is None:
            intake.resolve(future, None)
        else:
            intake.reject(future, error)

    replica.read(done)
    await future


async def propose(replica: Replica, field: str, message: Any, identity: Identity = NOBODY) -> bytes:
    """Propose a request and wait for its apply. Returns the response's body without its header; raises StatusError."""
    future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    replica.propose(field, canonical_encoding(message), message, settle(future), identity)
    return await future


def settle(future: asyncio.Future[bytes]) -> Callable[[Outcome], None]:
    """The callback of a proposal that sets the result of `future`, in a turn that allows it: one apply may end thousands."""
    intake = intake_of_running_loop()

    def done(outcome: Outcome) -> None:
        if future.done():
            return
        if isinstance(outcome, bytes | Answer):
            intake.resolve(future, whole_answer(outcome))
        else:
            intake.reject(future, outcome)

    return done


async def open_view(replica: Replica) -> ReadView:
    """A point-in-time view of the backend; the caller closes it."""
    future: asyncio.Future[ReadView] = asyncio.get_running_loop().create_future()
    intake = intake_of_running_loop()

    def opened(view: ReadView) -> None:
        if future.done():
            view.close()
        else:
            future.set_result(view)

    replica.backend.view(lambda view: intake.run(partial(opened, view)))  # one commit may open thousands
    try:
        return await future
    except asyncio.CancelledError:
        if future.done() and not future.cancelled():  # opened in the turn in which the caller was cancelled
            future.result().close()
        raise
