"""Requests of a load, encoded before the run, so that the generator only sends bytes.

Keys are decimal numbers of one length, as in `0000000000000042`; values are random bytes, taken from a small pool.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

from tercet.errors import ConfigError
from tercet.proto import rpc_pb2

PUT_PATH = "/etcdserverpb.KV/Put"
RANGE_PATH = "/etcdserverpb.KV/Range"
TXN_PATH = "/etcdserverpb.KV/Txn"
GRANT_PATH = "/etcdserverpb.Lease/LeaseGrant"
REVOKE_PATH = "/etcdserverpb.Lease/LeaseRevoke"
KEEPALIVE_PATH = "/etcdserverpb.Lease/LeaseKeepAlive"
LEASES_HELD = 1000
_PREPARED_MAX = 20_000
_PREPARED_BYTES_MAX = 64 << 20


@dataclass(frozen=True)
class Keys:
    """`space` keys of `size` bytes. Raises ConfigError if that many do not fit."""

    space: int
    size: int

    def __post_init__(self) -> None:
        if self.space > 10**self.size:
            raise ConfigError(f"{self.space} keys do not fit into {self.size} bytes; raise --key-size or lower --key-space")

    def key(self, number: int) -> bytes:
        return b"%0*d" % (self.size, number % self.space)

    def sample(self, count: int, chance: random.Random) -> list[bytes]:
        """All keys in a random order if they are no more than `count`, otherwise `count` of them."""
        return [self.key(number) for number in chance.sample(range(self.space), min(count, self.space))]


def values(size: int, chance: random.Random, count: int = 64) -> list[bytes]:
    return [chance.randbytes(size) for _ in range(count)]


def puts(keys: Keys, value_size: int, *, seed: int = 1) -> Iterator[bytes]:
    """Endless PutRequests to random keys."""
    chance = random.Random(seed)
    count = _prepared(value_size + keys.size)
    pool = values(value_size, chance, min(count, 64))
    return cycle([put(key, chance.choice(pool)).SerializeToString() for key in keys.sample(count, chance)])


def ranges(keys: Keys, *, serializable: bool, seed: int = 1) -> Iterator[bytes]:
    """Endless RangeRequests of one random key each."""
    chance = random.Random(seed)
    sample = keys.sample(_PREPARED_MAX, chance)
    return cycle([rpc_pb2.RangeRequest(key=key, serializable=serializable).SerializeToString() for key in sample])


def txns(keys: Keys, value_size: int, operations: int, *, seed: int = 1) -> Iterator[bytes]:
    """Endless TxnRequests of `operations` puts each, to random keys, no key twice in one."""
    if operations > keys.space:
        raise ConfigError(f"a txn of {operations} puts needs as many different keys; raise --key-space")
    chance = random.Random(seed)
    count = _prepared((value_size + keys.size) * operations)
    pool = values(value_size, chance, min(count, 64))
    requests = []
    for _ in range(min(count, max(keys.space // operations, 1))):
        chosen = chance.sample(range(keys.space), operations)
        requests.append(txn([put(keys.key(number), chance.choice(pool)) for number in chosen]).SerializeToString())
    return cycle(requests)


def compare_and_puts(keys: Keys, value_size: int, *, seed: int = 1) -> Iterator[bytes]:
    """Endless TxnRequests that put a key if it exists, which a compare of its version tells, and else read it."""
    chance = random.Random(seed)
    count = _prepared(value_size + keys.size)
    pool = values(value_size, chance, min(count, 64))
    compare = rpc_pb2.Compare
    requests = []
    for key in keys.sample(count, chance):
        request = txn([put(key, chance.choice(pool))])
        request.compare.add(key=key, target=compare.VERSION, result=compare.GREATER, version=0)
        request.failure.add(request_range=rpc_pb2.RangeRequest(key=key))
        requests.append(request.SerializeToString())
    return cycle(requests)


def mixed(keys: Keys, value_size: int, *, seed: int = 1) -> Iterator[tuple[str, bytes]]:
    """Endless requests with their paths: nine linearizable reads, then a put."""
    writes = puts(keys, value_size, seed=seed)
    for number, read in enumerate(ranges(keys, serializable=False, seed=seed + 1)):
        yield (PUT_PATH, next(writes)) if number % 10 == 9 else (RANGE_PATH, read)


def grants_and_revokes(ttl_seconds: int = 600) -> Iterator[tuple[str, bytes]]:
    """Endless grants and revokes by turns, after LEASES_HELD grants: a lease is revoked that was granted as many leases ago, so
    that its grant has been answered.
    """
    first = random.getrandbits(40) << 20  # leases of an earlier run are still there
    for number in itertools.count():
        lease_id = first + number
        yield GRANT_PATH, rpc_pb2.LeaseGrantRequest(ID=lease_id, TTL=ttl_seconds).SerializeToString()
        if number >= LEASES_HELD:
            yield REVOKE_PATH, rpc_pb2.LeaseRevokeRequest(ID=lease_id - LEASES_HELD).SerializeToString()


def filling(keys: Keys, value_size: int, batch: int = 100, *, seed: int = 1) -> Iterator[bytes]:
    """TxnRequests that together put every key once, `batch` keys each; made as they are taken, as there may be millions."""
    pool = values(value_size, random.Random(seed))
    for first in range(0, keys.space, batch):
        numbers = range(first, min(first + batch, keys.space))
        yield txn([put(keys.key(number), pool[number % len(pool)]) for number in numbers]).SerializeToString()


def put(key: bytes, value: bytes) -> rpc_pb2.PutRequest:
    return rpc_pb2.PutRequest(key=key, value=value)


def txn(operations: Sequence[rpc_pb2.PutRequest]) -> rpc_pb2.TxnRequest:
    return rpc_pb2.TxnRequest(success=[rpc_pb2.RequestOp(request_put=operation) for operation in operations])


def _prepared(request_bytes: int) -> int:
    """How many requests to keep ready: many, but not more than memory should hold."""
    return max(1, min(_PREPARED_MAX, _PREPARED_BYTES_MAX // max(request_bytes, 1)))
