"""A Range over very many keys, made in slices so that no turn of the loop is long.

A member that is busy for an election timeout loses its lead; a million keys take seconds. Up to SHORT_KEYS a Range is answered
in one go (a few ms); beyond it the answer is gathered a chunk at a time, all at the revision of the first, as RangeStream does.
"""

from __future__ import annotations

import asyncio
from typing import Final

from tercet.errors import RequestError, strip_traceback
from tercet.mvcc import Store, check_range_stream
from tercet.mvcc.ranges import bounds
from tercet.proto import rpc_pb2
from tercet.rpc import UnaryCall
from tercet.services.headers import Headers

SHORT_KEYS: Final = 20_000
_CHUNK_BYTES: Final = 1 << 20


def is_long(store: Store, request: rpc_pb2.RangeRequest) -> bool:
    """Whether the answer should be made in slices. A request with its own order or filters must see all pairs at once."""
    if request.count_only or not request.range_end or 0 < request.limit <= SHORT_KEYS:
        return False
    if store.index.count(*bounds(request.key, request.range_end)) <= SHORT_KEYS:
        return False
    try:
        check_range_stream(request)
    except RequestError as refusal:  # RangeStream's refusals are exactly what cannot be sliced
        strip_traceback(refusal)
        return False
    return True


async def answer(call: UnaryCall, store: Store, headers: Headers, request: rpc_pb2.RangeRequest) -> None:
    """Gather the answer while others are served. Errors become the call's status."""
    try:
        header = headers.current()
        parts = [header]
        for message in store.range_stream(request, header=b"", bytes_max=_CHUNK_BYTES):
            parts.append(_inner(message))
            await asyncio.sleep(0)
            if call.finished:
                return
        call.reply(b"".join(parts))
    except Exception as error:
        call.fail_with(error)


def _inner(message: bytes) -> bytes:
    """The RangeResponse in an encoded RangeStreamResponse: what is behind its tag and length."""
    position = 1
    while message[position] & 0x80:
        position += 1
    return message[position + 1 :]
