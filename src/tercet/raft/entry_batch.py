"""Fast: a turn's proposals into entries, and a message's entries out of their wire form.

The index's varint is rebuilt in full only every 128 entries, the length's only where it differs from the last one; on the way
in the head of each entry is known beforehand (same term, next index), so that comparing it replaces parsing it. Anything
unexpected goes the plain way. Slow twins: `types.encode_entry` and `codec.decode_entry`; tests/raft/test_codec.py holds them
together. Pays: 0.5 us instead of 1.4 us an entry made, 0.4 us instead of 1.1 us an entry read (python -m tests.raft.benchmark).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from tercet.raft.types import Entry, encode_entry, encode_varint

_MORE: Final = [bytes((0x80 | low,)) for low in range(0x80)]  # the low seven bits of a varint that goes on
_TYPE_ZERO: Final = b"\x08\x00"  # etcd up to 3.6 writes a type of zero, too


def make_entries(term: int, first_index: int, proposals: Sequence[bytes]) -> list[Entry]:
    """One normal entry of `term` for each proposal, from `first_index` on."""
    head = _head(term)
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
        made.append(Entry(term, index, data, 0, b"".join((head, _MORE[index & 0x7F], high, length_field, data))))
        index += 1
    return made


def read_entries(wires: Iterable[bytes], *, term: int, first_index: int, plain: Callable[[bytes], Entry]) -> list[Entry]:
    """Entries out of their wire forms; `term` and `first_index` are what they are likely to be, `plain` reads what is not
    so.
    """
    index = first_index
    block, stem, high, at = -1, b"", b"", 0
    read: list[Entry] = []
    for wire in wires:
        if index >> 7 != block:  # at the start, too
            block = index >> 7
            stem = _TYPE_ZERO + _head(term) if wire.startswith(_TYPE_ZERO) else _head(term)
            high = encode_varint(block) + b"\x22"
            at = len(stem) + 1 + len(high)
        if index >= 0x80 and len(wire) > at + 1 and wire.startswith(stem + _MORE[index & 0x7F] + high):
            low, next_byte = wire[at], wire[at + 1]
            if low >= 0x80 and next_byte < 0x80 and (low & 0x7F | next_byte << 7) + at + 2 == len(wire):
                read.append(Entry(term, index, wire[at + 2 :], 0, wire))
                index += 1
                continue
            if 0 < low < 0x80 and low + at + 1 == len(wire):
                read.append(Entry(term, index, wire[at + 1 :], 0, wire))
                index += 1
                continue
        entry = plain(wire)
        read.append(entry)
        term, index, block = entry.term, entry.index + 1, -1
    return read


def _head(term: int) -> bytes:
    return b"\x10" + encode_varint(term) + b"\x18"
