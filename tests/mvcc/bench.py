"""CPU time and memory of the store alone, over a backend of plain dictionaries: `python -m tests.mvcc.bench [keys]`."""

from __future__ import annotations

import gc
import random
import resource
import sys
import time
from collections.abc import Callable

from tercet.mvcc import Loaded, Store, hash_kv, whole_answer, whole_apply
from tercet.mvcc.encoding import encode_key_value, encode_revision_key
from tercet.proto import rpc_pb2
from tercet.proto.wire import varint
from tercet.storage.interfaces import Bucket
from tests.mvcc.dict_backend import DictBackend


class PlainBackend(DictBackend):
    """Keeps keys unordered and sorts them on a scan, so that writes cost as little as possible."""

    def __init__(self) -> None:
        self._buckets = {bucket: {} for bucket in Bucket}  # type: ignore[assignment]

    def scan(self, bucket, start=b"", end=None):  # type: ignore[no-untyped-def]
        return iter(
            sorted(item for item in self._buckets[bucket].items() if start <= item[0] and (end is None or item[0] < end))
        )


class OrderedSource:
    """A read view whose entries are already sorted, as a B+tree returns them."""

    def __init__(self, entries: list[tuple[bytes, bytes]]) -> None:
        self.entries = entries

    def get(self, bucket: Bucket, key: bytes) -> bytes | None:
        return None

    def scan(self, bucket: Bucket, start: bytes = b"", end: bytes | None = None):  # type: ignore[no-untyped-def]
        return ((bytes(memoryview(key)), pair) for key, pair in self.entries)

    def close(self) -> None: ...


def measure(name: str, work: Callable[[int], object], times: int) -> None:
    started = time.process_time()
    for number in range(times):
        work(number)
    print(f"{name:<44}{(time.process_time() - started) / times * 1e6:10.2f} us")


def rss() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def main() -> None:
    keys_total = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    value = b"v" * 256
    chance = random.Random(1)

    store = Store(PlainBackend())
    names = [b"/registry/pods/namespace-%03d/pod-%08x" % (i % 100, chance.getrandbits(32)) for i in range(50_000)]
    puts = [rpc_pb2.PutRequest(key=name, value=value) for name in names]
    measure("put, new key", lambda i: store.put(puts[i]), len(puts))
    measure("put, existing key", lambda i: store.put(puts[i]), len(puts))
    gets = [rpc_pb2.RangeRequest(key=name) for name in names]
    measure("range, one key", lambda i: whole_answer(store.range(gets[i])), len(gets))
    measure(
        "range, one key, historic",
        lambda i: whole_answer(store.range(rpc_pb2.RangeRequest(key=names[i], revision=60_000))),
        len(gets),
    )
    txns = [
        rpc_pb2.TxnRequest(
            compare=[rpc_pb2.Compare(key=name, target=rpc_pb2.Compare.MOD, mod_revision=50_002 + i)],
            success=[rpc_pb2.RequestOp(request_put=puts[i])],
            failure=[rpc_pb2.RequestOp(request_range=gets[i])],
        )
        for i, name in enumerate(names[:20_000])
    ]
    measure("txn, compare mod and put", lambda i: whole_apply(store.txn(txns[i])), len(txns))
    everything = rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0", limit=10_000)
    measure("range, 10,000 of 50,000 keys", lambda i: whole_answer(store.range(everything)), 20)
    store.compact(store.revision)
    started, steps = time.process_time(), 1
    while store.compaction_step():
        steps += 1
    print(f"{'compaction of 50,000 keys, a step':<44}{(time.process_time() - started) / steps * 1e6:10.2f} us, {steps} steps")
    del store

    entries = []
    for number in range(keys_total):
        mod = varint(number + 2)
        name = b"/registry/pods/namespace-%03d/pod-%08x" % (number % 100, chance.getrandbits(32))
        entries.append((encode_revision_key(number + 2, 0), encode_key_value(name, mod, mod, 1, value, 0)))
    key_bytes = sum(33 + pair[1] for _, pair in entries)
    gc.collect()
    gc.freeze()
    before = rss()
    started = time.process_time()
    loaded = Loaded(OrderedSource(entries))
    print(f"load of {keys_total:,} keys{'':<22}{time.process_time() - started:10.2f} s")
    print(f"memory beside the keys{'':<22}{(rss() - before - key_bytes) / keys_total:10.0f} B a key")
    started = time.process_time()
    gc.collect()
    print(f"full garbage collection{'':<21}{(time.process_time() - started) * 1e3:10.2f} ms")
    backend = PlainBackend()
    backend._buckets[Bucket.KEY] = dict(entries)  # type: ignore[assignment]
    store = Store(backend, loaded=loaded)
    count = rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0", count_only=True)
    measure("count of all keys", lambda i: whole_answer(store.range(count)), 100)
    names = [b"/registry/pods/namespace-%03d/pod-%08x" % (i % 100, chance.getrandbits(32)) for i in range(20_000)]
    puts = [rpc_pb2.PutRequest(key=name, value=value) for name in names]
    measure("put, new key among many", lambda i: store.put(puts[i]), len(puts))
    measure("put, existing key among many", lambda i: store.put(puts[i]), len(puts))
    count.revision = store.revision - 50_000
    started = time.process_time()
    whole_answer(store.range(count))
    print(f"historic count of all keys, by a scan{'':<7}{(time.process_time() - started) * 1e3:10.2f} ms")
    started = time.process_time()
    hash_kv(OrderedSource(entries), keys_total, 0)
    print(f"hash of all keys, with a compaction{'':<9}{time.process_time() - started:10.2f} s")


if __name__ == "__main__":
    main()
