"""Changes that no commit has written to the file yet, and the overlay of them on the file for readers.

A buffer is one dictionary per bucket, from key to value, None for a deleted key. A put costs one assignment. After
BUFFER_OPERATIONS of them another buffer is begun: Python copies a dictionary that grows, at a million entries for 0.1 s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from tercet.storage.interfaces import Bucket

BUFFER_OPERATIONS: Final = 1 << 16  # 2 ms to copy; one that deletes a million keys fills 16, which each read looks into

Changes = dict[bytes, bytes | None]
Buffer = dict[Bucket, Changes]


def new_buffer() -> Buffer:
    return {bucket: {} for bucket in Bucket}


def slices(buffer: Buffer, operations: int) -> Iterator[list[tuple[Bucket, list[tuple[bytes, bytes]], list[bytes]]]]:
    """The buffer in slices of at most `operations` changes: for each bucket, records to put and keys to delete."""
    result: list[tuple[Bucket, list[tuple[bytes, bytes]], list[bytes]]] = []
    space = operations
    for bucket, changes in buffer.items():
        items = iter(changes.items())
        while part := list(islice(items, space)):
            puts = [(key, value) for key, value in part if value is not None]
            deletes = [key for key, value in part if value is None]
            result.append((bucket, puts, deletes))
            space -= len(part)
            if space == 0:
                yield result
                result, space = [], operations
    if result:
        yield result


def changes_between(
    buffers: Iterable[Buffer], bucket: Bucket, start: bytes, end: bytes | None
) -> list[tuple[bytes, bytes | None]]:
    """Changes in start <= key < end, in order of key; `buffers` oldest first. Visits every key in them."""
    merged: Changes = {}
    for buffer in buffers:
        for key, value in buffer[bucket].items():
            if key >= start and (end is None or key < end):
                merged[key] = value
    return sorted(merged.items())


def overlay(records: Iterator[tuple[bytes, bytes]], changes: list[tuple[bytes, bytes | None]]) -> Iterator[tuple[bytes, bytes]]:
    """The file's records with the changes applied. Both ascend."""
    position, count = 0, len(changes)
    for key, value in records:
        while position < count and changes[position][0] < key:
            changed_key, changed = changes[position]
            position += 1
            if changed is not None:
                yield changed_key, changed
        if position < count and changes[position][0] == key:
            changed = changes[position][1]
            position += 1
            if changed is not None:
                yield key, changed
        else:
            yield key, value
    for changed_key, changed in changes[position:]:
        if changed is not None:
            yield changed_key, changed
