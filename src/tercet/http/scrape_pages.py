"""/metrics for everybody who asks, in a bounded share of the event loop's time.

    asked    A B .. C D E
    rendered    |        |         one page for A and B, one for C, D and E
                 <------>          at least four times as long as the page before took

A page takes some 10 ms; those who wait for it go on 64 a turn. A hundred connections that ask together, or one that pipelines
thousands of requests, would make turns of a second, in which the member sends no heartbeat.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import Final, TypeAlias

Page: TypeAlias = tuple[bytes, bytes, bytes]
"""Content-Type, Content-Encoding or b"", body."""

_ANSWERS_PER_TURN: Final = 64
_REST: Final = 4  # a fifth of the time, at most


class ScrapePages:
    """render: the page of this moment; the argument says whether it is compressed."""

    def __init__(self, render: Callable[[bool], Page]) -> None:
        self._render = render
        self._asked: dict[bool, list[asyncio.Future[Page]]] = {}  # by compression, of the next rendering
        self._free_at = 0.0  # on the loop's clock

    async def page(self, is_compressed: bool) -> Page:
        """The page at some moment after the call. Raises what `render` raises."""
        loop = asyncio.get_running_loop()
        if not self._asked:
            loop.call_at(max(loop.time(), self._free_at), self._answer, loop)
        future: asyncio.Future[Page] = loop.create_future()
        self._asked.setdefault(is_compressed, []).append(future)
        return await future

    def _answer(self, loop: asyncio.AbstractEventLoop) -> None:
        asked, self._asked = self._asked, {}
        began = perf_counter()
        for is_compressed, waiting in asked.items():
            try:
                page: Page | Exception = self._render(is_compressed)
            except Exception as error:
                page = error
            _hand_out(loop, page, waiting)
        self._free_at = loop.time() + _REST * (perf_counter() - began)


def _hand_out(loop: asyncio.AbstractEventLoop, page: Page | Exception, waiting: list[asyncio.Future[Page]]) -> None:
    for future in waiting[:_ANSWERS_PER_TURN]:
        if future.done():
            continue  # cancelled
        if isinstance(page, Exception):
            future.set_exception(page)
        else:
            future.set_result(page)
    rest = waiting[_ANSWERS_PER_TURN:]
    if rest:
        loop.call_soon(_hand_out, loop, page, rest)
