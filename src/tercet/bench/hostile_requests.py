"""Requests that are small to send and expensive to answer, as rows of `make bench-hostile`.

The store holds `keys` keys of 16 bytes under `k/`, as many that are deleted under `dead/`, 2,000 under `few/`, and 150 values
of 1 MB under `big/`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import Message

from tercet.bench.requests import GRANT_PATH, PUT_PATH, RANGE_PATH, REVOKE_PATH, TXN_PATH
from tercet.proto import rpc_pb2
from tercet.proto.wire import paste_field

DELETE_PATH: Final = "/etcdserverpb.KV/DeleteRange"
HASH_PATH: Final = "/etcdserverpb.Maintenance/Hash"
HASH_KV_PATH: Final = "/etcdserverpb.Maintenance/HashKV"
BIG_VALUES: Final = 150
BIG_BYTES: Final = 1 << 20
FEW_KEYS: Final = 2000
BATCH: Final = 100
_SUCCESS: Final = 2  # its number in TxnRequest
_REQUEST_PUT: Final = 2  # and in RequestOp

_Range = rpc_pb2.RangeRequest
_Op = rpc_pb2.RequestOp
ALL: Final[dict[str, Any]] = {"key": b"k/", "range_end": b"k0"}


@dataclass(frozen=True)
class Row:
    """requests: encoded (path, body); each of `clients` connections sends them in turn, the last one first, `times` in all.

    rest_seconds: to wait afterwards, for what the members do later.
    """

    name: str
    requests: tuple[tuple[str, bytes], ...]
    clients: int = 1
    times: int = 3
    rest_seconds: float = 0.0


def rows(revision_before_deletion: int) -> list[Row]:
    """All rows. revision_before_deletion: one at which the keys under `dead/` existed."""
    by_value = _Range(**ALL, sort_target=_Range.VALUE, sort_order=_Range.ASCEND, limit=1)
    filtered = _Range(**ALL, min_mod_revision=1 << 60)
    old = _Range(key=b"dead/", range_end=b"dead0", revision=revision_before_deletion)
    everything = _Range(**ALL)
    big = _Range(key=b"big/", range_end=b"big0")
    few = _Range(key=b"few/", range_end=b"few0", sort_target=_Range.VALUE, sort_order=_Range.ASCEND, limit=1)
    put = rpc_pb2.PutRequest(key=b"hostile", value=b"v")
    compare = rpc_pb2.Compare(**ALL, target=rpc_pb2.Compare.VALUE, result=rpc_pb2.Compare.NOT_EQUAL, value=b"absent")
    reads = _txn([_range(by_value)] * 5)
    writes = _txn([_Op(request_put=put), *([_range(by_value)] * 3)])
    leased = _lease_of(100_000)
    compares = rpc_pb2.TxnRequest(compare=[compare] * 20, success=[_Op(request_put=put)])
    return [
        Row("read-only Txn, 5 ranges sorted by VALUE", (_request(reads),)),
        Row("write Txn, a put and 3 such ranges", (_request(writes),)),
        Row("write Txn, 20 range compares", (_request(compares),)),
        Row("Txn of 128 sorted ranges over 2,000 keys", (_request(_txn([_range(few)] * 128)),)),
        Row("nested Txn, 40 levels and 40,000 puts and ranges", (_request(_nested()),), times=2),
        Row("range sorted by VALUE", (_request(by_value),)),
        Row("range sorted by VALUE, no limit", (_request(_Range(**ALL, sort_target=_Range.VALUE)),)),
        Row("range with a min_mod_revision filter", (_request(filtered),)),
        Row("range of all keys", (_request(everything),)),
        Row(
            "count of all keys at an old revision",
            (_request(_Range(**ALL, count_only=True, revision=revision_before_deletion)),),
        ),
        Row("range at an old revision, all dead now", (_request(old),)),
        Row(f"{BIG_VALUES} values of 1 MB", (_request(big),)),
        Row("Hash and HashKV", ((HASH_PATH, b""), (HASH_KV_PATH, b"")), times=2),
        Row(
            "8 clients: all of the reads above", tuple(map(_request, (reads, by_value, filtered, everything, old, big))), 8, 24
        ),
        Row("DeleteRange of all, with prev_kv", (_request(rpc_pb2.DeleteRangeRequest(**ALL, prev_kv=True)),), times=1),
        Row("grant 100,000 leases", ((GRANT_PATH, _grant(3600)),), 64, 100_000),
        Row("10,000 leases expire together", ((GRANT_PATH, _grant(5)),), 64, 10_000, rest_seconds=20.0),
        Row("attach 100,000 keys to a lease, then revoke it", leased, times=len(leased)),
    ]


def filling(keys: int, prefix: bytes) -> Iterator[bytes]:
    """Encoded txns that put `keys` keys of 16 bytes under `prefix`, each made when it is sent: a million take 0.2 GB."""
    for first in range(0, keys, BATCH):
        puts = [
            b"\x0a%c%b%08d\x12\x10%016d" % (len(prefix) + 8, prefix, n, n * 7919 % keys)
            for n in range(first, min(first + BATCH, keys))
        ]
        yield b"".join([paste_field(_SUCCESS, paste_field(_REQUEST_PUT, put)) for put in puts])


def big_puts() -> Iterator[bytes]:
    for number in range(BIG_VALUES):
        yield rpc_pb2.PutRequest(key=b"big/%03d" % number, value=bytes([number]) * BIG_BYTES).SerializeToString()


def _grant(ttl_seconds: int, id: int = 0) -> bytes:
    return rpc_pb2.LeaseGrantRequest(TTL=ttl_seconds, ID=id).SerializeToString()


def _lease_of(keys: int) -> tuple[tuple[str, bytes], ...]:
    """Grant a lease, attach keys, revoke it; the first request last."""
    lease = 0x7E4CE7
    ops = [_Op(request_put=rpc_pb2.PutRequest(key=b"leased/%08d" % number, lease=lease)) for number in range(keys)]
    txns = [(TXN_PATH, _txn(ops[at : at + BATCH]).SerializeToString()) for at in range(0, keys, BATCH)]
    revoke = rpc_pb2.LeaseRevokeRequest(ID=lease).SerializeToString()
    return ((REVOKE_PATH, revoke), *txns, (GRANT_PATH, _grant(3600, lease)))


def _nested() -> rpc_pb2.TxnRequest:
    """As deep as clients encode it, and as broad as an entry may be: 128 operations at most on each way down."""
    inner = rpc_pb2.TxnRequest()
    for level in range(38):
        inner = _txn([_Op(request_txn=inner), _range(_Range(key=b"n/%d" % level))])
    branches = [_Op(request_txn=_txn([_leaf(first, second) for second in range(40)])) for first in range(30)]
    return _txn([_Op(request_txn=inner), *branches])


def _leaf(first: int, second: int) -> rpc_pb2.RequestOp:
    puts = [_Op(request_put=rpc_pb2.PutRequest(key=b"n/%d/%d/%d" % (first, second, third))) for third in range(16)]
    ranges = [_range(_Range(key=b"n/%d" % third)) for third in range(16)]
    return _Op(request_txn=_txn([*puts, *ranges]))


def _range(request: rpc_pb2.RangeRequest) -> rpc_pb2.RequestOp:
    return _Op(request_range=request)


def _txn(success: Sequence[rpc_pb2.RequestOp]) -> rpc_pb2.TxnRequest:
    return rpc_pb2.TxnRequest(success=success)


def _request(message: Message) -> tuple[str, bytes]:
    paths = {rpc_pb2.TxnRequest: TXN_PATH, rpc_pb2.RangeRequest: RANGE_PATH, rpc_pb2.DeleteRangeRequest: DELETE_PATH}
    return paths[type(message)], message.SerializeToString()


__all__ = ["DELETE_PATH", "PUT_PATH", "Row", "big_puts", "filling", "rows"]
