"""Changes that no commit has written to the file yet, and the overlay of them on the file for readers.

A buffer is one dictionary per bucket, from key to value, None for a deleted key. A put costs one assignment. After
BUFFER_OPERATIONS of them another buffer is begun: Python copies a dictionary that grows, at a million entries for 0.1 s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from tercet.storage.interfaces import Bucket

BUFFER_OPERATIONS: Final = 1 << 16  # 2 ms to copy; one that deletes a million keys fills 16, which each read looks into

Changes = dict[bytes, bytes | None]
Buffer = dict[Bucket, Changes]
BucketChanges = tuple[Bucket, list[tuple[bytes, bytes]], list[bytes]]


def new_buffer() -> Buffer:
    return {bucket: {} for bucket in Bucket}


def slices(buffer: Buffer, operations: int, size_bytes: int) -> Iterator[list[BucketChanges]]:
    """The buffer in slices: for each bucket, records to put and keys to delete.

    A slice has at most `operations` changes, and ends with the one that brings its values to `size_bytes`.
    """
    result: list[BucketChanges] = []
    space, space_bytes = operations, size_bytes
    for bucket, changes in buffer.items():
        puts: list[tuple[bytes, bytes]] = []
        deletes: list[bytes] = []
        for key, value in changes.items():
            if value is None:
                deletes.append(key)
            else:
                puts.append((key, value))
                space_bytes -= len(value)
            space -= 1
            if space <= 0 or space_bytes <= 0:
                result.append((bucket, puts, deletes))
                yield result
                result, puts, deletes = [], [], []
                space, space_bytes = operations, size_bytes
        if puts or deletes:
            result.append((bucket, puts, deletes))
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
