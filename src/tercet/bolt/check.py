"""Verification of a whole bbolt file, and its summary.

`check` visits every reachable page and every element, and compares the pages with the freelist: no page may be used twice, or
be both used and free, and a stored freelist must list all the rest. `summarize` computes what `snapshot status` prints. Both
need one bit per page, and hold one page run at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from struct import iter_unpack, unpack_from

import google_crc32c

from tercet.bolt.format import COUNT_ELSEWHERE, FREELIST_PAGE, HEADER_BYTES, NO_FREELIST
from tercet.bolt.reader import BoltFile, Page
from tercet.errors import StorageFailure

_REVISION_BYTES = 17  # main (8, big-endian), "_", sub (8); a tombstone has a "t" after them
_FAULTS_MAX = 100


@dataclass(slots=True)
class Report:
    """The result of `check`. The file is intact if `faults` is empty; an invalid spare meta is a remark, not a fault."""

    pages: int
    pages_used: int = 0
    pages_free: int = 0
    items: dict[bytes, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Summary:
    """`snapshot status`: CRC-32C of bucket names, keys and values in order; newest revision; items; bytes of pages in use."""

    hash: int
    revision: int
    items: int
    size: int
    storage_version: str


def check(path: str | Path) -> Report:
    """Verify the whole file. Raises StorageFailure only if nothing can be read: no file, no valid meta, pages cut off."""
    with BoltFile(path) as file:
        report = Report(pages=file.meta.high_water, remarks=[f"{file.path}: {fault}" for fault in file.meta_faults])
        use = _PageUse(file, report)
        try:
            buckets = list(file.roots(use.take))
        except StorageFailure as failure:
            report.faults.append(str(failure))
            return report
        for bucket in buckets:
            count = 0
            try:
                for _ in file.items_of(bucket, use.take):
                    count += 1
            except StorageFailure as failure:
                report.faults.append(str(failure))
            report.items[bucket.name] = count
        if not report.faults:
            use.compare_with_freelist()
        return report


def summarize(path: str | Path) -> Summary:
    """One pass over all items. Raises StorageFailure at the first fault."""
    crc, items, revision, version = 0, 0, 0, b""
    with BoltFile(path) as file:
        for bucket in file.roots():
            crc = google_crc32c.extend(crc, bucket.name)
            key = b""
            for key, value in file.items_of(bucket):
                crc = google_crc32c.extend(google_crc32c.extend(crc, key), value)
                items += 1
                if key == b"storageVersion" and bucket.name == b"meta":
                    version = value
            if bucket.name == b"key" and len(key) >= _REVISION_BYTES:
                revision = int.from_bytes(key[:8], "big")
        return Summary(crc, revision, items, file.meta.file_bytes, version.decode("utf-8", "replace"))


class _PageUse:
    """One bit per page: set if the page is in use."""

    def __init__(self, file: BoltFile, report: Report) -> None:
        self._file = file
        self._report = report
        self._used = bytearray(file.meta.high_water // 8 + 1)
        for meta in (0, 1):
            self._mark(meta)

    def take(self, page: Page) -> None:
        """Mark a page and its overflow as used. Raises StorageFailure if one of them is marked already."""
        for number in range(page.id, page.id + page.overflow + 1):
            if not self._mark(number):
                raise self._file.damage(number, "is used twice")

    def compare_with_freelist(self) -> None:
        """No page may be both free and used; with a stored freelist, each page must be one of the two."""
        if self._file.meta.freelist == NO_FREELIST:
            self._report.pages_free = self._report.pages - self._report.pages_used
            return
        try:
            freelist = self._file.read_page(self._file.meta.freelist)
            self.take(freelist)
            for number in self._free_pages(freelist):
                self._free(number)
        except StorageFailure as failure:
            self._report.faults.append(str(failure))
            return
        lost = self._report.pages - self._report.pages_used - self._report.pages_free
        if lost and not self._report.faults:
            self._report.faults.append(f"{self._file.path}: {lost} pages are neither used nor free")

    def _free_pages(self, page: Page) -> Iterator[int]:
        if page.flags != FREELIST_PAGE:
            raise self._file.damage(page.id, f"flags {page.flags:#x} where the freelist is expected")
        start, count = HEADER_BYTES, page.elements
        if count == COUNT_ELSEWHERE:
            (count,) = unpack_from("<Q", page.data, start)
            start += 8
        if start + 8 * count > len(page.data):
            raise self._file.damage(page.id, f"{count} free pages do not fit")
        return (number for (number,) in iter_unpack("<Q", memoryview(page.data)[start : start + 8 * count]))

    def _free(self, number: int) -> None:
        if len(self._report.faults) >= _FAULTS_MAX:
            return
        if not 2 <= number < self._report.pages:
            self._report.faults.append(str(self._file.damage(number, "is free, but outside of the file")))
        elif not self._mark(number):
            self._report.faults.append(str(self._file.damage(number, "is free and used, or free twice")))
        else:
            self._report.pages_used -= 1
            self._report.pages_free += 1

    def _mark(self, number: int) -> bool:
        """Set the bit of a page. False if it was set already."""
        bit = 1 << (number & 7)
        if self._used[number >> 3] & bit:
            return False
        self._used[number >> 3] |= bit
        self._report.pages_used += 1
        return True
