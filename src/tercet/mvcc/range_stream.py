"""A Range in many messages: neither side holds the whole of it, and other requests run between two of them.

The revision is fixed at the start, so what is written meanwhile is not seen; the index answers for that revision until it
is compacted. The size of a message follows that of its pairs: ten keys first, then twice as many while messages are small.
All messages merged are the answer of a Range; only the last has header, `more` and `count`.
Source: etcd 3.7 KV.RangeStream, by its behaviour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from tercet.errors import COMPACTED, require
from tercet.mvcc.encoding import paste_kvs
from tercet.mvcc.ranges import Ranges, bounds, count_field, strip
from tercet.proto import rpc_pb2
from tercet.proto.wire import paste_field

_FIRST_KEYS = 10


def messages(
    ranges: Ranges,
    request: rpc_pb2.RangeRequest,
    revision: int,
    current: int,
    header: bytes,
    bytes_max: int,
    *,
    compacted: Callable[[], int],
) -> Iterator[bytes]:
    """Encoded RangeStreamResponses. Raises COMPACTED when a compaction overtakes `revision`.

    current: the store's revision; compacted: its compaction at the moment of the call.
    """
    start, end = bounds(request.key, request.range_end)
    count = ranges.count(start, end, revision, current)
    return _messages(ranges, request, revision, start, end, count, header, bytes_max, compacted)


def _messages(
    ranges: Ranges,
    request: rpc_pb2.RangeRequest,
    revision: int,
    start: bytes,
    end: bytes | None,
    count: int,
    header: bytes,
    bytes_max: int,
    compacted: Callable[[], int],
) -> Iterator[bytes]:
    left = 0 if request.count_only else min(count, request.limit) if request.limit > 0 else count
    more = b"\x18\x01" if not request.count_only and left < count else b""
    keys = _FIRST_KEYS
    while True:
        keys = min(keys, left)
        if revision < compacted():
            raise COMPACTED
        found = list(islice(ranges.index.range_at(start, end, revision), keys)) if keys else []
        pairs = ranges.fetch([revision_key for _, revision_key in found]) if found else []
        chunk = paste_kvs(2, strip(request, pairs) if request.keys_only else pairs)
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
