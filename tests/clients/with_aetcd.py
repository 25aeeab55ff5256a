"""A program with the `aetcd` package, run against a member: python with_aetcd.py PORT. Exits with 0 if every check passes.

Runs in the environment of the third-party clients and imports nothing of tercet. aetcd has no TLS.
"""

from __future__ import annotations

import asyncio
import io
import sys

import aetcd


async def main(port: str) -> None:
    async with aetcd.Client("127.0.0.1", int(port), timeout=10) as client:
        await client.put(b"aetcd/a", b"1")
        found = await client.get(b"aetcd/a")
        assert (found.value, found.version) == (b"1", 1)
        assert await client.get(b"aetcd/none") is None
        assert (await client.put(b"aetcd/a", b"2", prev_kv=True)).prev_kv.value == b"1"
        await asyncio.gather(*(client.put(b"aetcd/many/%02d" % number, b"v" * number) for number in range(100)))
        many = await client.get_prefix(b"aetcd/many/")
        assert [pair.key for pair in many] == [b"aetcd/many/%02d" % number for number in range(100)]
        transactions = client.transactions
        succeeded, responses = await client.transaction(
            compare=[transactions.value(b"aetcd/a") == b"2", transactions.version(b"aetcd/a") > 1],
            success=[transactions.put(b"aetcd/a", b"3"), transactions.get(b"aetcd/a")],
            failure=[transactions.delete(b"aetcd/a")],
        )
        assert succeeded
        assert responses[1][0][0] == b"3"
        assert await client.replace(b"aetcd/a", b"3", b"4")
        assert not await client.replace(b"aetcd/a", b"3", b"5")
        assert (await client.delete(b"aetcd/a")) is not None
        assert (await client.delete(b"aetcd/a")) is None
        revision = (await client.delete_prefix(b"aetcd/many/")).header.revision
        await client.compact(revision, physical=True)
        lease = await client.lease(60)
        await client.put(b"aetcd/leased", b"1", lease)
        assert (await lease.granted_ttl(), list(await lease.keys())) == (60, [b"aetcd/leased"])
        assert 55 <= await lease.remaining_ttl() <= 60
        assert (await lease.refresh()).TTL == 60
        await lease.revoke()
        assert await client.get(b"aetcd/leased") is None
        lock = client.lock(b"aetcd/lock", ttl=60)
        assert await lock.acquire(timeout=5)
        assert not await client.lock(b"aetcd/lock", ttl=60).acquire(timeout=0.5)
        assert await lock.release()
        revision = (await client.put(b"aetcd/watched/a", b"1")).header.revision
        await client.put(b"aetcd/watched/b", b"2")
        await client.delete(b"aetcd/watched/a")
        seen = []
        async for event in await client.watch_prefix(b"aetcd/watched/", start_revision=revision):
            seen.append((event.kind, event.kv.key, event.kv.mod_revision))
            if len(seen) == 3:
                break
        assert [one[0].upper() for one in seen] == ["PUT", "PUT", "DELETE"]
        assert [one[1] for one in seen] == [b"aetcd/watched/a", b"aetcd/watched/b", b"aetcd/watched/a"]
        assert [one[2] for one in seen] == [revision, revision + 1, revision + 2]
        status = await client.status()
        assert status.leader is not None
        assert [member.name async for member in client.members()] == ["n1"]
        copy = io.BytesIO()
        await client.snapshot(copy)
        assert len(copy.getvalue()) % 512 == 32  # whole pages, and a digest


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
    print("all held")
