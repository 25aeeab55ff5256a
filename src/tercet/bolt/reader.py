"""Reader of bbolt files that trusts none of their bytes and needs memory for a few pages.

A received snapshot is untrusted. Every page is verified before use: its id and kind, that its elements lie inside it one after
the other, that keys rise over the whole bucket and stay within the separators of the branch above, and that no page is visited
twice. A fault raises StorageFailure with file and page. No input makes the reader loop, recurse, or read more than one page run
at once. It cannot detect a changed value, or a changed key that keeps the order: data pages have no checksum (digest.py has one
of the file).

It reads by pread, not mmap: truncating a mapped file would kill the process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

from tercet.bolt.format import (
    BRANCH_ELEMENT,
    BRANCH_PAGE,
    BUCKET_ELEMENT,
    BUCKET_HEADER,
    HEADER_BYTES,
    LEAF_ELEMENT,
    LEAF_PAGE,
    META_BYTES,
    META_PAGE,
    PAGE_HEADER,
    PAGE_SIZES,
    Meta,
    decode_meta,
)
from tercet.errors import StorageFailure
from tercet.storage.os_filesystem import reason

PAGE_RUN_BYTES_MAX: Final = 1 << 28  # etcd's requests are at most 1.5 MiB, unless configured otherwise
DEPTH_MAX: Final = 64  # enough for 2**64 pages: a branch has at least two children


class Page(NamedTuple):
    """A page with its overflow. `data` begins with the header."""

    id: int
    flags: int
    elements: int
    overflow: int
    data: bytes


class Bucket(NamedTuple):
    """The root of a bucket's tree: a page, or a leaf inside the bucket's own value (inline)."""

    name: bytes
    root: int
    inline: bytes
    page: int  # the page with the bucket's element, for errors


class BoltFile:
    """An open file; a context manager. `meta` is the newer valid one of the two.

    Methods and iterators raise StorageFailure with file and page. A digest after the last page is ignored.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        try:
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise StorageFailure(f"{self.path}: {reason(error)}") from error
        try:
            self.size = os.fstat(self._descriptor).st_size
            self.meta_faults: list[str] = []
            self.meta = self._choose_meta()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> BoltFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Further use of this object or its iterators raises StorageFailure."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def buckets(self) -> Iterator[bytes]:
        """Names of the top-level buckets, in order."""
        return (bucket.name for bucket in self.roots())

    def roots(self, visited: Callable[[Page], None] | None = None) -> Iterator[Bucket]:
        """The top-level buckets, in order."""
        for page, flags, name, value in self._walk(self.meta.root, b"", visited):
            if not flags & BUCKET_ELEMENT:
                raise self.damage(page, f"{name!r} in the root bucket is not a bucket")
            yield self._bucket(page, name, value)

    def items(self, name: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values of a top-level bucket, in order; nothing if there is no such bucket."""
        for bucket in self.roots():
            if bucket.name == name:
                yield from self.items_of(bucket)
                return

    def items_of(self, bucket: Bucket, visited: Callable[[Page], None] | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Like `items`; calls `visited` with each page."""
        for page, flags, key, value in self._walk(bucket.root, bucket.inline, visited, bucket.page):
            if flags & BUCKET_ELEMENT:
                raise self.damage(page, f"bucket {key!r} inside of bucket {bucket.name!r}")
            yield key, value

    def damage(self, page: int, fault: str) -> StorageFailure:
        """The error for a fault of a page."""
        return StorageFailure(f"{self.path}: page {page}: {fault}")

    def read_page(self, number: int) -> Page:
        """Page `number`, of any kind, with its overflow. Verifies only its header and its position."""
        size, high_water = self.meta.page_size, self.meta.high_water
        if not 2 <= number < high_water:
            raise self.damage(number, f"outside of 2..{high_water - 1}")
        data = self._pread(size, number * size)
        if len(data) < size:
            raise self.damage(number, f"cut short, {len(data)} of {size} bytes")
        own_id, flags, count, overflow = PAGE_HEADER.unpack_from(data)
        if own_id != number:
            raise self.damage(number, f"its header says page {own_id}")
        if overflow:
            if overflow >= high_water - number:
                raise self.damage(number, f"overflows into page {number + overflow}, past {high_water - 1}")
            run_bytes = size * (1 + overflow)
            if run_bytes > PAGE_RUN_BYTES_MAX:
                raise self.damage(number, f"has {run_bytes} bytes with its overflow; the limit is {PAGE_RUN_BYTES_MAX}")
            data = self._pread(run_bytes, number * size)
            if len(data) < run_bytes:
                raise self.damage(number, f"cut short, {len(data)} of {run_bytes} bytes")
        return Page(number, flags, count, overflow, data)

    def _choose_meta(self) -> Meta:
        """The valid meta with the larger txid. If page 0 is broken, the page size is unknown, and page 1 is searched for."""
        first = self._read_meta(0, 0)
        sizes = (first.page_size,) if isinstance(first, Meta) else PAGE_SIZES
        seconds = [self._read_meta(1, size) for size in sizes]
        second = next((meta for meta in seconds if isinstance(meta, Meta)), seconds[0])
        for number, meta in enumerate((first, second)):
            if not isinstance(meta, Meta):
                self.meta_faults.append(f"page {number}: {meta}")
        valid = [meta for meta in (first, second) if isinstance(meta, Meta)]
        if not valid:
            raise StorageFailure(f"{self.path}: no valid meta page ({'; '.join(self.meta_faults)})")
        meta = max(valid, key=lambda meta: meta.txid)
        if self.size < meta.file_bytes:
            raise StorageFailure(f"{self.path}: cut short: {self.size} bytes, {meta.file_bytes} in use")
        return meta

    def _read_meta(self, number: int, offset: int) -> Meta | str:
        data = self._pread(HEADER_BYTES + META_BYTES, offset)
        if len(data) < HEADER_BYTES:
            return "cut short"
        own_id, flags, _, _ = PAGE_HEADER.unpack_from(data)
        meta = decode_meta(data[HEADER_BYTES:])
        if isinstance(meta, Meta):
            if (own_id, flags) != (number, META_PAGE):
                return f"header says page {own_id}, flags {flags:#x}"
            if offset not in (0, meta.page_size):
                return f"page size {meta.page_size} in a meta at {offset}"
        return meta

    def _bucket(self, page: int, name: bytes, value: bytes) -> Bucket:
        if len(value) < HEADER_BYTES:
            raise self.damage(page, f"bucket {name!r} has a value of {len(value)} bytes")
        root, _ = BUCKET_HEADER.unpack_from(value)
        inline = value[HEADER_BYTES:]
        if not root and len(inline) < HEADER_BYTES:
            raise self.damage(page, f"bucket {name!r} has neither a root page nor an inline page")
        return Bucket(name, root, inline, page)

    def _walk(
        self, root: int, inline: bytes, visited: Callable[[Page], None] | None, page: int = 0
    ) -> Iterator[tuple[int, int, bytes, bytes]]:
        """All leaf elements of a tree as (page, flags, key, value), keys rising; `page` is the page of an inline leaf."""
        if not root:
            _, flags, count, overflow = PAGE_HEADER.unpack_from(inline)
            for element_flags, key, value in self._leaf_elements(Page(page, flags, count, overflow, inline), b"", None, b""):
                yield page, element_flags, key, value
            return
        seen = bytearray(self.meta.high_water // 8 + 1)
        last = b""
        # Pages left to visit, leftmost on top: page, depth, lower and upper bound of its keys.
        stack: list[tuple[int, int, bytes, bytes | None]] = [(root, 0, b"", None)]
        while stack:
            number, depth, low, high = stack.pop()
            node = self.read_page(number)
            if seen[number >> 3] >> (number & 7) & 1:
                raise self.damage(number, "occurs twice in one tree")
            seen[number >> 3] |= 1 << (number & 7)
            if visited is not None:
                visited(node)
            if node.flags == BRANCH_PAGE:
                if depth == DEPTH_MAX:
                    raise self.damage(number, f"more than {DEPTH_MAX} levels deep")
                for child, child_low, child_high in reversed(self._children(node, low, high)):
                    stack.append((child, depth + 1, child_low, child_high))
                continue
            for element_flags, key, value in self._leaf_elements(node, low, high, last):
                yield number, element_flags, key, value
                last = key

    def _children(self, page: Page, low: bytes, high: bytes | None) -> list[tuple[int, bytes, bytes | None]]:
        """A branch's children as (page, lower bound, upper bound)."""
        data = page.data
        self._check_count(page)
        if not page.elements:
            raise self.damage(page.id, "branch without children")
        separators: list[bytes] = []
        pages: list[int] = []
        for index in range(page.elements):
            offset = HEADER_BYTES * (index + 1)
            pos, key_bytes, child = BRANCH_ELEMENT.unpack_from(data, offset)
            start = offset + pos
            if start < HEADER_BYTES * (page.elements + 1) or start + key_bytes > len(data):
                raise self.damage(page.id, f"element {index} points outside of it")
            separators.append(data[start : start + key_bytes])
            pages.append(child)
        if any(left >= right for left, right in pairwise(separators)):
            raise self.damage(page.id, "branch keys out of order")
        if high is not None and separators[-1] >= high:
            raise self.damage(page.id, f"branch key {separators[-1]!r} beyond its parent's {high!r}")
        if len(separators) > 1 and separators[1] <= low:
            raise self.damage(page.id, f"branch key {separators[1]!r} before its parent's {low!r}")
        # The first separator may be smaller than the first key, so the parent's bound is the better one.
        lows = [max(low, separators[0]), *separators[1:]]
        return list(zip(pages, lows, [*separators[1:], high], strict=True))

    def _leaf_elements(self, page: Page, low: bytes, high: bytes | None, last: bytes) -> Iterator[tuple[int, bytes, bytes]]:
        """A leaf's elements as (flags, key, value), verified one by one: low <= key < high, rising, the first after `last`."""
        if page.flags != LEAF_PAGE:
            raise self.damage(page.id, f"flags {page.flags:#x}, not those of a branch (0x1) or a leaf (0x2)")
        self._check_count(page)
        data = page.data
        end = len(data)
        first = HEADER_BYTES * (page.elements + 1)
        free = first  # where the next key may begin: of values that overlap, a small page would have terabytes
        unpack = LEAF_ELEMENT.unpack_from
        for offset in range(HEADER_BYTES, first, HEADER_BYTES):
            flags, pos, key_bytes, value_bytes = unpack(data, offset)
            key_start = offset + pos
            value_start = key_start + key_bytes
            if key_start < first or value_start + value_bytes > end:
                raise self.damage(page.id, f"element {offset // HEADER_BYTES - 1} points outside of it")
            if key_start < free:
                raise self.damage(page.id, f"element {offset // HEADER_BYTES - 1} overlaps the one before")
            free = value_start + value_bytes
            key = data[key_start:value_start]
            if key <= last or key < low:
                raise self.damage(page.id, f"key {key!r} out of order")
            if high is not None and key >= high:
                raise self.damage(page.id, f"key {key!r} beyond its parent's {high!r}")
            if flags & ~BUCKET_ELEMENT:
                raise self.damage(page.id, f"element flags {flags:#x}")
            last = key
            yield flags, key, data[value_start : value_start + value_bytes]

    def _check_count(self, page: Page) -> None:
        if HEADER_BYTES * (page.elements + 1) > len(page.data):
            raise self.damage(page.id, f"{page.elements} elements do not fit")

    def _pread(self, count: int, offset: int) -> bytes:
        try:
            return os.pread(self._descriptor, count, offset)
        except OSError as error:
            raise StorageFailure(f"{self.path}: offset {offset}: {reason(error)}") from error
