"""A view that opens after its caller was cancelled is closed, since an open view pins pages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tercet.replica.replica import Replica
from tercet.services.awaitables import open_view


class View:
    def __init__(self) -> None:
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


@pytest.mark.parametrize("first", ["view", "cancellation"])
def test_a_view_is_closed_if_its_caller_is_cancelled_in_the_same_turn(first: str) -> None:
    async def test() -> None:
        asked: list[Callable[[Any], None]] = []
        replica = cast(Replica, SimpleNamespace(backend=SimpleNamespace(view=asked.append)))
        task = asyncio.ensure_future(open_view(replica))
        await asyncio.sleep(0)
        view = View()
        steps: list[Callable[[], object]] = [lambda: asked[0](view), task.cancel]
        for step in steps if first == "view" else reversed(steps):
            step()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert view.is_closed

    asyncio.run(test())
