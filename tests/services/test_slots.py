"""Slots: in order, whoever is cancelled."""

from __future__ import annotations

import asyncio

from tercet.slots import Slots


def test_slots_are_handed_on_in_order_and_not_to_cancelled_tasks() -> None:
    async def test() -> None:
        slots = Slots(2)
        at_work: list[int] = []

        async def work(number: int) -> None:
            async with slots:
                at_work.append(number)

        await slots.acquire()
        await slots.acquire()
        tasks = [asyncio.create_task(work(number)) for number in range(5)]
        await asyncio.sleep(0)
        assert at_work == []
        tasks[3].cancel()
        tasks[0].cancel()
        slots.release()  # both cancelled tasks have not run yet: it is the turn of 1
        tasks[1].cancel()  # which leaves it to 2
        await asyncio.gather(*tasks, return_exceptions=True)
        assert at_work == [2, 4]
        slots.release()
        async with slots, slots:  # none is lost
            pass

    asyncio.run(asyncio.wait_for(test(), 60))
