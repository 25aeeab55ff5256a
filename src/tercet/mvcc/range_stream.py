"""A Range in many messages: neither side holds the whole of it, and other requests run between two of them.

The revision is fixed at the start, so what is written meanwhile is not seen; the index answers for that revision until it
is compacted. The size of a message follows that of its pairs: ten keys first, then twice as many while messages are small.
All messages merged are the answer of a Range; only the last has header, `more` and `count`.
Source: etcd 3.7 KV.RangeStream, by its behaviour.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from tercet.errors import COMPACTED, require
from tercet.mvcc.encoding import paste_pairs
from tercet.mvcc.ranges import bounds, count_field, strip
from tercet.proto import rpc_pb2
from tercet.proto.wire import paste_field

if TYPE_CHECKING:
    from tercet.mvcc.store import Store

_FIRST_KEYS = 10


def messages(store: Store, request: rpc_pb2.RangeRequest, revision: int, header: bytes, bytes_max: int) -> Iterator[bytes]:
    """Encoded RangeStreamResponses. Raises COMPACTED when a compaction overtakes `revision`."""
    start, end = bounds(request.key, request.range_end)
    count = store.ranges.count(start, end, revision, store.revision)
    return _messages(store, request, revision, start, end, count, header, bytes_max)


def _messages(
    store: Store,
    request: rpc_pb2.RangeRequest,
    revision: int,
    start: bytes,
    end: bytes | None,
    count: int,
    header: bytes,
    bytes_max: int,
) -> Iterator[bytes]:
    left = 0 if request.count_only else min(count, request.limit) if request.limit > 0 else count
    more = b"\x18\x01" if not request.count_only and left < count else b""
    keys = _FIRST_KEYS
    while True:
        keys = min(keys, left)
        if revision < store.compact_revision:
            raise COMPACTED
        found = list(islice(store.index.then(start, end, revision), keys)) if keys else []
        pairs = store.ranges.fetch([revision_key for _, revision_key in found]) if found else []
        chunk = paste_pairs(2, strip(request, pairs) if request.keys_only else pairs)
        left -= len(found)
        require(bool(found) or not left, "a range ends before its count", revision, left)
        if not left:
            yield paste_field(1, header + chunk + more + count_field(count))
            return
        yield paste_field(1, chunk)
        start = found[-1][0] + b"\0"
        if len(chunk) < bytes_max // 2:
            keys *= 2
        elif len(chunk) > bytes_max * 2:
            keys = max(1, keys // 2)
