"""Fast code: encodes the proposals of a turn as entries.

The upper bytes of the index varint are made once per 128 entries, the length varint only when the length changes.
Slow twin: `types.encode_entry`; tests/raft/test_codec.py checks that the two agree.
Pays: 0.4 us instead of 1.0 us an entry (python -m tests.raft.benchmark). The same for decoding gained a tenth: not kept.
"""

from __future__ import annotations

from collections.abc import Sequence

from tercet.proto.wire import MORE, encode_varint
from tercet.raft.types import Entry, encode_entry


def make_entries(term: int, first_index: int, proposals: Sequence[bytes]) -> list[Entry]:
    """One normal entry of `term` for each proposal, from `first_index` on."""
    head = b"\x10" + encode_varint(term) + b"\x18"
    index = first_index
    block, high = -1, b""
    length, length_field = -1, b""
    made: list[Entry] = []
    for data in proposals:
        if index < 0x80 or not data:
            made.append(Entry(term, index, data, 0, encode_entry(term, index, data)))
            index += 1
            continue
        if index >> 7 != block:
            block = index >> 7
            high = encode_varint(block)
        if len(data) != length:
            length = len(data)
            length_field = b"\x22" + encode_varint(length)
        made.append(Entry(term, index, data, 0, b"".join((head, MORE[index & 0x7F], high, length_field, data))))
        index += 1
    return made
