"""Service discovery: each backend puts its address under a lease; whoever needs them follows a watch.

A backend that dies disappears within the TTL of its lease. Prints:

    backends: -
    backends: 10.0.0.1:80
    backends: 10.0.0.1:80, 10.0.0.2:80
    backends: 10.0.0.2:80
    backends: -
"""

from __future__ import annotations

import asyncio

from connected import connected

import tercet


async def backend(client: tercet.AsyncClient, address: str, stop: asyncio.Event) -> None:
    """Serve until told to stop; if the lease is lost, the block is cancelled and raises LeaseLost."""
    async with client.lease(10) as lease:
        await client.put(f"services/web/{lease.id:x}", address, lease=lease)
        await stop.wait()


async def resolve(client: tercet.AsyncClient, changed: asyncio.Queue[list[str]]) -> None:
    """Follow the addresses; `watch_list` sees every change, also across lost connections and compactions."""
    addresses: dict[bytes, str] = {}
    async for batch in client.watch_list("services/web/"):
        for event in batch:
            if event.is_delete:
                addresses.pop(event.key, None)
            else:
                addresses[event.key] = event.kv.text()
        changed.put_nowait(sorted(addresses.values()))


async def main() -> None:
    async with connected() as client:
        changed: asyncio.Queue[list[str]] = asyncio.Queue()
        resolver = asyncio.create_task(resolve(client, changed))
        show = lambda backends: print("backends:", ", ".join(backends) or "-")  # noqa: E731
        show(await changed.get())
        running: list[tuple[asyncio.Task[None], asyncio.Event]] = []
        for address in ("10.0.0.1:80", "10.0.0.2:80"):
            stop = asyncio.Event()
            running.append((asyncio.create_task(backend(client, address, stop)), stop))
            show(await changed.get())
        for task, stop in running:
            stop.set()
            await task
            show(await changed.get())
        resolver.cancel()


if __name__ == "__main__":
    asyncio.run(main())
