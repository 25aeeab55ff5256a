"""However many ask for /metrics, a turn of the loop renders one page, and most of the time is left to others."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from time import perf_counter, sleep

from tercet.http.scrape_pages import Page, ScrapePages

SECONDS = 0.01


class Pages:
    """Renders that take `SECONDS` each, and remember when they began."""

    def __init__(self) -> None:
        self.began: list[tuple[float, bool]] = []

    def render(self, is_compressed: bool) -> Page:
        self.began.append((perf_counter(), is_compressed))
        sleep(SECONDS)
        return b"text/plain", b"gzip" if is_compressed else b"", b"%d" % len(self.began)


def test_those_who_ask_before_a_page_share_it() -> None:
    async def scenario() -> None:
        pages = Pages()
        scrapes = ScrapePages(pages.render)
        found = await asyncio.gather(*(scrapes.page(number % 2 == 1) for number in range(100)))
        assert [is_compressed for _, is_compressed in pages.began] == [False, True]
        assert {page[1:] for page in found} == {(b"", b"1"), (b"gzip", b"2")}
        assert (await scrapes.page(False))[2] == b"3", "a page shows what was so when it was asked for"

    asyncio.run(scenario())


def test_those_who_share_a_page_go_on_in_several_turns() -> None:
    async def scenario() -> None:
        scrapes = ScrapePages(Pages().render)
        asked = [asyncio.create_task(scrapes.page(False)) for _ in range(1000)]
        before = 0
        while before < len(asked):
            await asyncio.sleep(0)
            answered = sum(task.done() for task in asked)
            assert answered - before <= 64
            before = answered
        assert {(await task)[2] for task in asked} == {b"1"}

    asyncio.run(scenario())


def test_pages_leave_four_fifths_of_the_time() -> None:
    async def scenario() -> None:
        pages = Pages()
        scrapes = ScrapePages(pages.render)
        for _ in range(4):
            await scrapes.page(False)
        begins = [began for began, _ in pages.began]
        assert all(after - before >= 5 * SECONDS * 0.95 for before, after in pairwise(begins))

    asyncio.run(scenario())


def test_one_who_leaves_takes_the_page_from_nobody() -> None:
    async def scenario() -> None:
        scrapes = ScrapePages(Pages().render)
        leaving, staying = asyncio.create_task(scrapes.page(False)), asyncio.create_task(scrapes.page(False))
        await asyncio.sleep(0)
        leaving.cancel()
        assert (await staying)[2] == b"1"

    asyncio.run(scenario())


def test_a_failure_reaches_all_who_asked_and_the_next_try_renders_again() -> None:
    async def scenario() -> None:
        failures = [OSError("no /proc")]

        def render(is_compressed: bool) -> Page:
            if failures:
                raise failures.pop()
            return b"", b"", b"ok"

        scrapes = ScrapePages(render)
        found = await asyncio.gather(scrapes.page(False), scrapes.page(False), return_exceptions=True)
        assert [type(one) for one in found] == [OSError, OSError]
        assert (await scrapes.page(False))[2] == b"ok"

    asyncio.run(scenario())
