"""What was put but is not in the file yet, and how it lies over the file for a reader.

A buffer is one dictionary a bucket, key to value, None for a deleted key: a put costs one assignment.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from tercet.storage.interfaces import Bucket

Changes = dict[bytes, bytes | None]
Buffer = dict[Bucket, Changes]


def new_buffer() -> Buffer:
    return {bucket: {} for bucket in Bucket}


def merge_into(older: Buffer, newer: Buffer) -> None:
    """Make `older` what it is after `newer`."""
    for bucket, changes in newer.items():
        older[bucket].update(changes)


def slices(buffer: Buffer, operations: int) -> Iterator[list[tuple[Bucket, list[tuple[bytes, bytes]], list[bytes]]]]:
    """The buffer in pieces of at most so many operations: for each bucket touched what to put and what to delete."""
    piece: list[tuple[Bucket, list[tuple[bytes, bytes]], list[bytes]]] = []
    room = operations
    for bucket, changes in buffer.items():
        items = iter(changes.items())
        while part := list(islice(items, room)):
            puts = [(key, value) for key, value in part if value is not None]
            deletes = [key for key, value in part if value is None]
            piece.append((bucket, puts, deletes))
            room -= len(part)
            if room == 0:
                yield piece
                piece, room = [], operations
    if piece:
        yield piece


def changes_between(
    buffers: tuple[Buffer, ...], bucket: Bucket, start: bytes, end: bytes | None
) -> list[tuple[bytes, bytes | None]]:
    """What the buffers, oldest first, say about start <= key < end, in order. Looks at every key in them."""
    merged: Changes = {}
    for buffer in buffers:
        for key, value in buffer[bucket].items():
            if key >= start and (end is None or key < end):
                merged[key] = value
    return sorted(merged.items())


def overlay(records: Iterator[tuple[bytes, bytes]], changes: list[tuple[bytes, bytes | None]]) -> Iterator[tuple[bytes, bytes]]:
    """The file's records with the changes laid over them; both ascend."""
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
