"""The Python programs in the pages of docs/ run against a server, with what their surroundings would give them.

Those that are tests for pytest or the simulator are left out: tests/testing and tests/simulation have the same.
"""

from __future__ import annotations

import asyncio
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

import tercet
from tercet.testing import Cluster
from tests.support.waiting import scaled

DOCS = Path(__file__).parents[1] / "docs"
SEEN_SECONDS = 0.5  # of a program that goes on for ever


def examples(page: str) -> list[str]:
    programs = re.findall(r"(?ms)^```python\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"))
    return [program for program in programs if "def test_" not in program and "unittest" not in program]


class Archive:
    """A resource outside of etcd."""

    def write(self, text: str, token: int) -> None:
        assert text
        assert token


async def work() -> None:
    await asyncio.sleep(0)


async def run(program: str, names: dict[str, Any]) -> None:
    """Run it in this event loop, or in a thread if it is a synchronous one."""
    if not re.search(r"\b(await|async)\b", program):
        await asyncio.to_thread(exec, program, names)
        return
    exec("async def example():\n" + textwrap.indent(program, "    "), names)
    is_endless = re.search(r"\basync for\b", program) is not None
    try:
        async with asyncio.timeout(SEEN_SECONDS if is_endless else scaled(20)):
            await names["example"]()
    except TimeoutError:
        assert is_endless


@pytest.mark.parametrize("page", ["client.md", "embedding.md", "testing.md"])
def test_the_programs_of_a_page_run(page: str) -> None:
    programs = examples(page)
    assert len(programs) >= 3

    async def scenario(endpoints: list[str]) -> None:
        for program in programs:
            async with tercet.AsyncClient(endpoints) as client:
                for key, value in {"show": "1", "seat": "free", "a": "3"}.items():
                    await client.put(key, value)
                names = {"tercet": tercet, "Cluster": Cluster, "cluster": cluster, "client": client, "text": "x"}
                names |= {"serve": work, "schedule": work, "archive": Archive()}
                await run(program.replace('"http://a:2379,http://b:2379"', repr(endpoints)), names)

    with Cluster(size=1) as cluster:
        asyncio.run(scenario(list(cluster.endpoints)))
