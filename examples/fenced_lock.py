"""A distributed lock with fencing: a holder that was paused for too long cannot spoil what its successor writes. Prints:

first holds the lock
first is paused, and its lease expires
second holds the lock, with a higher token
archive: accepted from second
archive: refused from first, its token is old
etcd: refused from first: the lock is lost
"""

from __future__ import annotations

import asyncio

from connected import connected

import tercet


class Archive:
    """A store outside etcd. It keeps the highest token that it has seen; that is all that fencing asks of it."""

    def __init__(self) -> None:
        self._highest = 0

    def write(self, name: str, token: int) -> None:
        if token < self._highest:
            print(f"archive: refused from {name}, its token is old")
            return
        self._highest = token
        print(f"archive: accepted from {name}")


async def main() -> None:
    archive = Archive()
    async with connected() as client:
        first = client.lock("archive", ttl_seconds=2)
        await first.acquire()
        print("first holds the lock")
        assert first.lease is not None
        token, key = first.token, first.key
        first.lease.forget()  # nobody renews the lease, as if the process were stopped or its host cut off
        print("first is paused, and its lease expires")
        async with client.lock("archive", ttl_seconds=10) as second:
            print("second holds the lock, with", "a higher token" if second.token > token else "a lower token")
            archive.write("second", second.token)
            archive.write("first", token)
            try:
                guard = Paused(key, token)
                await client.txn(then=[client.put_op("archive/last", "first")], guard=guard)
            except tercet.LockLost:
                print("etcd: refused from first: the lock is lost")


class Paused:
    """What the first process still believes when it wakes up."""

    def __init__(self, key: bytes, token: int) -> None:
        self.key = key
        self.token = token


if __name__ == "__main__":
    asyncio.run(main())
