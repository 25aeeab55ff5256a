"""Every call of aetcd's surface, as a transcript: python aetcd_calls.py MODULE PORT.

MODULE is `aetcd` or `tercet.compat.aetcd`; on servers in the same state both must print the same.
"""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

from shown import shown


async def show(name: str, call: Callable[[], Awaitable[Any]]) -> None:
    try:
        print(f"{name}: {shown(await call())}", flush=True)
    except Exception as error:
        print(f"{name}: raised {shown(error)}", flush=True)


async def main(name: str, port: str) -> None:
    aetcd = import_module(name)
    for part in ("client", "exceptions", "leases", "locks", "members", "rpc", "rtypes", "transactions", "utils", "watcher"):
        import_module(f"{name}.{part}")
    async with aetcd.Client("127.0.0.1", int(port), timeout=10) as client:
        await keys(client)
        await transactions(aetcd, client)
        await leases_and_locks(client)
        await watches(aetcd, client)
        await cluster(aetcd, client)
    await connections(aetcd, int(port))


async def keys(client: Any) -> None:
    await show("put", lambda: client.put(b"a/1", b"one"))
    await show("put prev_kv", lambda: client.put(b"a/1", b"two", prev_kv=True))
    await show("put str", lambda: client.put("a/1", b"x"))
    await show("get", lambda: client.get(b"a/1"))
    await show("get none", lambda: client.get(b"none"))
    await show("get serializable", lambda: client.get(b"a/1", serializable=True))
    await show("put empty key", lambda: client.put(b"", b"x"))
    await show("put unknown lease", lambda: client.put(b"a/1", b"x", lease=12345))
    for number in range(2, 6):
        await client.put(b"a/%d" % number, b"%d" % (9 - number))
    await show("get_prefix", lambda: client.get_prefix(b"a/", sort_order="descend", sort_target="value"))
    await show("get_prefix keys_only", lambda: client.get_prefix(b"a/", keys_only=True))
    await show("get_range", lambda: client.get_range(b"a/2", b"a/4", sort_order="ascend"))
    await show("get_all", lambda: client.get_all(keys_only=True))
    found = await client.get_prefix(b"a/")
    await show(
        "range", lambda: value([bool(found), len(found), found.count, found.more, found[0].key, [kv.key for kv in found]])
    )
    await show("empty range", lambda: client.get_prefix(b"none"))
    await show("sort_order", lambda: client.get_prefix(b"a/", sort_order="up"))
    await show("sort_target", lambda: client.get_prefix(b"a/", sort_target="size"))
    await show("replace", lambda: client.replace(b"a/1", b"two", b"three"))
    await show("replace again", lambda: client.replace(b"a/1", b"two", b"four"))
    await show("delete", lambda: client.delete(b"a/1", prev_kv=True))
    await show("delete none", lambda: client.delete(b"a/1"))
    deleted = await client.delete_range(b"a/2", b"a/4", prev_kv=True)
    await show(
        "delete_range", lambda: value([deleted, bool(deleted), len(deleted), deleted[0].key, [kv.value for kv in deleted]])
    )
    await show("delete_prefix", lambda: client.delete_prefix(b"a/"))
    await show("compact", lambda: client.compact(3))
    await show("compact again", lambda: client.compact(3))
    await show("compact physical", lambda: client.compact(4, physical=True))


async def value(result: Any) -> Any:
    return result


async def transactions(aetcd: Any, client: Any) -> None:
    t = client.transactions
    await client.put(b"t/a", b"1")
    await show("txn", lambda: client.transaction([t.value(b"t/a") == b"1"], [t.put(b"t/a", b"2"), t.get(b"t/a")], []))
    await show("txn fails", lambda: client.transaction([t.version(b"t/a") > 5], [], [t.delete(b"t/a", prev_kv=True)]))
    await show("txn range", lambda: client.transaction([t.create(b"t/", b"t0") == 0], [t.get(b"t/", b"t0")], []))
    await show("txn nested", lambda: client.transaction([], [t.txn([t.mod(b"t/b") != 1], [t.put(b"t/b", b"1")], [])], []))
    await show("txn unknown", lambda: client.transaction([], ["op"], []))
    await show("txn twice the same key", lambda: client.transaction([], [t.put(b"t/x", b"1"), t.put(b"t/x", b"2")], []))
    await show("compare none", lambda: value(t.mod("k").build_message()))
    await show("messages", lambda: value([(compare < 7).build_message() for compare in (t.version("k"), t.create("k"))]))
    await show("prefix_range_end", lambda: value([aetcd.utils.prefix_range_end(p) for p in (b"foo", b"ab\xff", b"\xff")]))
    await show(
        "to_bytes", lambda: value([aetcd.utils.to_bytes("\u00e9"), aetcd.utils.lease_to_id(None), aetcd.utils.lease_to_id(5)])
    )


async def leases_and_locks(client: Any) -> None:
    lease = await client.lease(60, lease_id=77)
    await show("lease", lambda: value(lease))
    await show("lease again", lambda: client.lease(60, lease_id=77))
    await show("lease too long", lambda: client.lease(10**10))
    await client.put(b"l", b"1", lease)
    await show("leased", lambda: value(lease.id))
    await show("granted", lease.granted_ttl)
    await show("keys", lease.keys)
    await show("remaining", lambda: value(lease.ttl))
    await show("refresh", lease.refresh)
    await show("refresh none", lambda: client.refresh_lease(78))
    await show("info none", lambda: client.get_lease_info(78))
    await show("info", lambda: client.get_lease_info(77, keys=False))
    assert 50 < await lease.remaining_ttl() <= 60
    await show("revoke", lease.revoke)
    await show("revoke again", lambda: client.revoke_lease(77))
    await show("revoked", lambda: client.get(b"l"))
    lock, other = client.lock(b"lock", ttl=30), client.lock(b"lock", ttl=30)
    await show("lock key", lambda: value([lock.key, lock.ttl, lock.lease]))
    await show("refresh before", lock.refresh)
    await show("lock", lock.acquire)
    await show("is_acquired", lock.is_acquired)
    await show("held", lambda: other.acquire(timeout=0))
    await show("held still", lambda: other.acquire(timeout=0.2))
    await show("other is_acquired", other.is_acquired)
    await show("lock refresh", lock.refresh)
    await show("release other", other.release)
    await show("release", lock.release)
    async with lock:
        await show("with lock", lock.is_acquired)
    await show("after", lambda: other.acquire(None))
    await show("after release", other.release)


async def watches(aetcd: Any, client: Any) -> None:
    first = (await client.put(b"w/a", b"1")).header.revision
    await client.put(b"w/a", b"2")
    await client.delete(b"w/a")
    watch = await client.watch(b"w/a", start_revision=first, prev_kv=True)
    seen = []
    async for event in watch:
        seen.append(event)
        if len(seen) == 3:
            await watch.cancel()
    for event in seen:
        kind = [event.kind, event.kind == aetcd.EventKind(event.kind), event.prev_kv is None]
        await show("event", lambda e=event, k=kind: value([*k, e.kv.key, e.kv.value, e.kv.version, e.kv.mod_revision - first]))
        if event.prev_kv is not None:
            await show("prev", lambda e=event: value([e.prev_kv.value, e.prev_kv.version]))
    watch = await client.watch_prefix(b"w/", start_revision=first, kind=aetcd.EventKind.DELETE)
    async for event in watch:
        await show("delete event", lambda e=event: value([e.kind, e.kv.key, e.prev_kv]))
        break
    await watch.cancel()
    await show("watch", lambda: value([type(watch.watch_id).__name__, repr(watch).startswith("Watch[watch_id=")]))
    once = await client.watch_once(b"w/a", timeout=10, start_revision=first, kind=aetcd.EventKind.PUT)
    await show("watch_once", lambda: value(once.kv.value))
    once = await client.watch_prefix_once(b"w/", timeout=10, start_revision=first)
    await show("watch_prefix_once", lambda: value(once.kv.value))
    await show("no event", lambda: client.watch_once(b"w/none", timeout=0.2))
    await show("kind", lambda: client.watch(b"w/a", kind="put"))


async def cluster(aetcd: Any, client: Any) -> None:
    (member,) = [member async for member in client.members()]
    await show("member", lambda: value([member.name, len(member.peer_urls), len(member.client_urls)]))
    status = await client.status()
    await show("status", lambda: value([status.version, status.leader.id == member.id, status.raft_index > 0]))
    await show("add_member", lambda: client.add_member(["no url"]))
    await show("remove_member", lambda: client.remove_member(5))
    await show("update_member", lambda: client.update_member(5, ["http://127.0.0.1:1"]))
    await show("update", lambda: member.update(list(member.peer_urls)))
    await show("alarm", client.create_alarm)
    await show("alarms", lambda: listed(client.list_alarms()))
    await show("no space", lambda: client.put(b"full", b"x"))
    await show("disarm", client.disarm_alarm)
    await show("no alarms", lambda: listed(client.list_alarms()))
    await show("alarm type", lambda: listed(client.list_alarms(alarm_type="corrupt")))
    assert isinstance(await client.hash(), int)
    await show("defragment", client.defragment)
    copy = io.BytesIO()
    await show("snapshot", lambda: client.snapshot(copy))
    await show("snapshot bytes", lambda: value(len(copy.getvalue()) % 512))


async def listed(iterator: Any) -> Any:
    return [each async for each in iterator]


async def connections(aetcd: Any, port: int) -> None:
    client = aetcd.Client("127.0.0.1", port)
    await show("without connect", lambda: client.get(b"t/a"))
    await client.close()
    await show("after close", lambda: client.get(b"t/a"))
    await client.close()
    await client.close()
    await show("one of user and password", lambda: value(aetcd.Client(username="u")))
    for timeout in (None, 10):
        refused = aetcd.Client("127.0.0.1", 1, timeout=timeout)
        try:
            await refused.put(b"a", b"b")
        except aetcd.ClientError as error:
            print("refused:", type(error).__name__)
        await refused.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
