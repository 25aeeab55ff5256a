"""Leader election: candidates lead one after the other, an observer follows. Prints:

observer: host-1
observer: host-1, 2 jobs done
observer: host-2
observer: host-2, 2 jobs done
observer: host-3
observer: host-3, 2 jobs done
"""

from __future__ import annotations

import asyncio

from connected import connected

import tercet


async def candidate(client: tercet.AsyncClient, name: str, seen: asyncio.Semaphore) -> None:
    """Lead once. The block is cancelled if the leadership is lost; its end resigns, and the next candidate leads."""
    async with client.election("scheduler", ttl_seconds=10).lead(name) as election:
        await seen.acquire()
        jobs = 2
        # With `guard` a write has no effect once another process leads, even if this one has not noticed.
        await client.txn(then=[client.put_op("schedule", f"made by {name}")], guard=election)
        await election.proclaim(f"{name}, {jobs} jobs done")
        await seen.acquire()  # an observer that is slower than the changes sees only the last of them


async def main() -> None:
    async with connected() as client:
        leaders = client.election("scheduler").observe()
        for number in (1, 2, 3):
            seen = asyncio.Semaphore(0)
            leading = asyncio.create_task(candidate(client, f"host-{number}", seen))
            for _ in range(2):
                print("observer:", (await anext(leaders)).text())
                seen.release()
            await leading


if __name__ == "__main__":
    asyncio.run(main())
