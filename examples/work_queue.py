"""A work queue: urgent jobs first, each for one of several workers, which count what they have done together. Prints:

12 jobs queued
first: urgent
done: 12, waiting: 0
"""

from __future__ import annotations

import asyncio

from connected import connected

import tercet

URGENT, NORMAL = 0, 10


async def worker(client: tercet.AsyncClient, done: list[str]) -> None:
    """Take jobs until none is left. A job that is taken is gone: put it back if it fails and should be repeated."""
    queue, counter = client.priority_queue("jobs"), client.counter("done")
    while (job := await queue.get_now()) is not None:
        done.append(job.decode())
        await counter.add()


async def main() -> None:
    async with connected() as client:
        queue = client.priority_queue("jobs")
        for number in range(11):
            await queue.put(f"job {number}", NORMAL)
        await queue.put("urgent", URGENT)
        print(await queue.length(), "jobs queued")
        done: list[str] = []
        await worker_once(client, done)
        print("first:", done[0])
        await asyncio.gather(*(worker(client, done) for _ in range(4)))
        print(f"done: {await client.counter('done').value()}, waiting: {await queue.length()}")


async def worker_once(client: tercet.AsyncClient, done: list[str]) -> None:
    done.append((await client.priority_queue("jobs").get()).decode())
    await client.counter("done").add()


if __name__ == "__main__":
    asyncio.run(main())
