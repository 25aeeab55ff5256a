"""Layout of a bbolt file.

A file is a sequence of pages of one size. Page N lies at N * page_size and begins with a header: id u64, flags u16, count u16,
overflow u32 (the number of pages that follow directly and belong to it). Pages 0 and 1 are metas; the valid one with the larger
txid is current. A meta names the root bucket's page: a B+tree whose leaves hold the buckets, each again the root of a tree. All
integers are little-endian.

    leaf element    flags u32, pos u32, ksize u32, vsize u32      (flags 1: the value is a bucket, root u64 + sequence u64)
    branch element  pos u32, ksize u32, child u64
Elements follow the header in an array; `pos` counts from the element itself to its key; a leaf's value follows its key.

This module opens no file, and verifies nothing but metas.
Source: go.etcd.io/bbolt page.go, db.go; checked against files that etcd 3.5.1 wrote (tests/bolt).
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

PAGE_SIZE: Final = 4096
PAGE_SIZES: Final = tuple(1 << n for n in range(10, 17))
KEY_BYTES_MAX: Final = 32768
VALUE_BYTES_MAX: Final = (1 << 31) - 2

PAGE_HEADER: Final = Struct("<QHHI")
LEAF_ELEMENT: Final = Struct("<IIII")
BRANCH_ELEMENT: Final = Struct("<IIQ")
BUCKET_HEADER: Final = Struct("<QQ")
HEADER_BYTES: Final = 16  # the same for a page, an element of either kind, and a bucket

BRANCH_PAGE: Final = 0x01
LEAF_PAGE: Final = 0x02
META_PAGE: Final = 0x04
FREELIST_PAGE: Final = 0x10
BUCKET_ELEMENT: Final = 0x01

COUNT_ELSEWHERE: Final = 0xFFFF  # a longer freelist has its count in its first u64
NO_FREELIST: Final = (1 << 64) - 1

_MAGIC: Final = 0xED0CDAED
_VERSION: Final = 2
_META: Final = Struct("<IIIIQQQQQ")
META_BYTES: Final = _META.size + 8


class Meta(NamedTuple):
    """One of the two metas of a file. `high_water` is the first page id never used."""

    page_size: int
    root: int
    freelist: int
    high_water: int
    txid: int

    @property
    def file_bytes(self) -> int:
        """Bytes of all pages; a shorter file is truncated."""
        return self.high_water * self.page_size


def encode_meta_page(number: int, meta: Meta) -> bytes:
    """Page `number` (0 or 1), whole."""
    body = _META.pack(_MAGIC, _VERSION, meta.page_size, 0, meta.root, 0, meta.freelist, meta.high_water, meta.txid)
    page = PAGE_HEADER.pack(number, META_PAGE, 0, 0) + body + _fnv1a(body).to_bytes(8, "little")
    return page.ljust(meta.page_size, b"\0")


def decode_meta(data: bytes) -> Meta | str:
    """The meta in the 64 bytes after a page header, or its fault."""
    if len(data) < META_BYTES:
        return "cut short"
    magic, version, page_size, _, root, _, freelist, high_water, txid = _META.unpack_from(data)
    if magic != _MAGIC:
        return "not a bbolt meta"
    if int.from_bytes(data[_META.size : META_BYTES], "little") != _fnv1a(data[: _META.size]):
        return "wrong checksum"
    if version != _VERSION:
        return f"format version {version}, not {_VERSION}"
    if page_size not in PAGE_SIZES:
        return f"page size {page_size}"
    if not 2 <= root < high_water:
        return f"root page {root} outside of 2..{high_water - 1}"
    if freelist != NO_FREELIST and not 2 <= freelist < high_water:
        return f"freelist page {freelist} outside of 2..{high_water - 1}"
    return Meta(page_size, root, freelist, high_water, txid)


def _fnv1a(data: bytes) -> int:
    """FNV-1a, 64 bits (RFC draft-eastlake-fnv)."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value
