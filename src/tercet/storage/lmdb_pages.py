"""LMDB's file format, as far as it shows that a file is complete and its pages are in place, before LMDB maps it.

LMDB reads through a memory map. Access to a page in use beyond the end of the file kills the process with SIGBUS, so a
truncated file must be recognised before it is mapped. It takes for granted that a page is what its tree has there: one that a
disk has lost, with zeros or other data in its place, ends the process in an assertion, at each start. So the header of each
page of the trees is looked at: 2 us a page, some 30 records. Damage within a page is for the checksums of its records to find.

A file consists of pages; the first two are metas, and the one with the larger transaction number is current. A file that is as
long as its meta says is complete. A shorter one need not be damaged: LMDB does not write a page that one transaction allocates
and frees (one file in seven, after random puts and deletes). Then the trees decide: the file is complete if it has each page
that they reach.

    meta    page header, 16 bytes | magic u32 | version u32 | 2 u64 | tree of free pages | main tree | last page u64 | txn u64
    tree    page size u32 | flags u16 | depth u16 | 4 counters u64 | root page u64      (the page size only in the first)
    page    number u64 | u16 | flags u16 | end of the node table u16 | u16 | node table: offsets u16
    node    branch: child page, 48 bits | key size u16 | key      leaf: data size u32 | flags u16 | key size u16 | key | data

Integers have the byte order of the machine. Source: LMDB 0.9, mdb.c.
"""

from __future__ import annotations

import os
import sys
from struct import Struct, error
from typing import Final

from tercet.errors import DamagedDatabase

_META: Final = Struct("=II16x")  # magic, version
_TREE: Final = Struct("=IHH32xQ")  # page size, flags, depth, root
_META_END: Final = Struct("=QQ")  # last page, transaction
_META_AT: Final = 16
_TREES_AT: Final = _META_AT + _META.size
_END_AT: Final = _TREES_AT + 2 * _TREE.size
_META_BYTES: Final = _END_AT + _META_END.size
_PAGE: Final = Struct("=10xHH2x")  # flags, end of the node table
_NUMBERED_PAGE: Final = Struct("=Q2xHH2x")
_BRANCH_NODE: Final = Struct("=IHH")  # child's low 32 bits, its high 16 bits, key size
_LEAF_NODE: Final = Struct("=IHH")  # data size, flags, key size
_PAGE_NUMBER: Final = Struct("=Q")

_MAGIC: Final = 0xBEEFC0DE
_NO_PAGE: Final = (1 << 64) - 1
_BRANCH_PAGE: Final = 0x01
_LEAF_PAGE: Final = 0x02
_OVERFLOW_NODE: Final = 0x01  # its data is the number of the first overflow page
_TREE_NODE: Final = 0x02  # its data is a tree

Tree = tuple[int, int]
"""Number of the root page, or _NO_PAGE; depth: 1 where the root is a leaf."""


def check_complete(fd: int, path: str) -> None:
    """Raise DamagedDatabase if the file has no metas, or if a page in use lies beyond its end."""
    size = os.fstat(fd).st_size
    page_bytes, trees, last_page = _read_meta(fd, path, size)
    expected = (last_page + 1) * page_bytes
    if size < expected and not _are_in_file(fd, page_bytes, trees, size):
        raise DamagedDatabase(f"database {path} is truncated: it has {size} bytes, and {expected} according to its header")


def check_pages(fd: int, path: str) -> None:
    """Raise DamagedDatabase if a page of the trees is not one, for a file that `check_complete` has accepted."""
    size = os.fstat(fd).st_size
    page_bytes, trees, _ = _read_meta(fd, path, size)
    # Pages to visit, with the levels below them; in the order of their keys, as whoever loads them next.
    stack = [(root, levels - 1, root) for root, levels in reversed(trees) if root != _NO_PAGE]
    pages = size // page_bytes
    for _ in range(pages + 1):
        if not stack:
            return
        page, levels, root = stack.pop()
        if page >= pages:
            break
        is_leaf = levels == 0
        data = os.pread(fd, _PAGE.size if is_leaf and root != trees[1][0] else page_bytes, page * page_bytes)
        try:
            number, flags, table_end = _NUMBERED_PAGE.unpack_from(data)
            kind = _LEAF_PAGE if is_leaf else _BRANCH_PAGE
            if number != page or flags & (_LEAF_PAGE | _BRANCH_PAGE) != kind or not _PAGE.size <= table_end <= page_bytes:
                break
            if not is_leaf:
                stack += [(child, levels - 1, root) for child in reversed(_references(data, page_bytes)[0])]
            elif root == trees[1][0]:
                stack += [(below, depth - 1, below) for below, depth in reversed(_trees_in(data)) if below != _NO_PAGE]
        except error:
            break
    raise DamagedDatabase(f"database {path} is damaged: page {page} is not the one that belongs there")


def _read_meta(fd: int, path: str, size: int) -> tuple[int, list[Tree], int]:
    """Page size, both trees, and last page, of the current meta."""
    metas: list[tuple[int, int, list[Tree], int]] = []
    page_bytes = 0
    for number in range(2):
        data = os.pread(fd, _META_BYTES, number * page_bytes)
        if len(data) < _META_BYTES:
            raise DamagedDatabase(f"database {path} is truncated: it has {size} bytes, less than its header")
        magic, _ = _META.unpack_from(data, _META_AT)
        page_bytes, _, free_depth, free_root = _TREE.unpack_from(data, _TREES_AT)
        _, _, main_depth, main_root = _TREE.unpack_from(data, _TREES_AT + _TREE.size)
        last_page, transaction = _META_END.unpack_from(data, _END_AT)
        if magic != _MAGIC or not page_bytes:
            raise DamagedDatabase(f"{path} is not an LMDB database")
        metas.append((transaction, page_bytes, [(free_root, free_depth), (main_root, main_depth)], last_page))
    return max(metas, key=lambda meta: meta[0])[1:]


def _are_in_file(fd: int, page_bytes: int, trees: list[Tree], size: int) -> bool:
    """Whether every page that the trees reach is in the file."""
    stack = [root for root, _ in trees if root != _NO_PAGE]
    pages = size // page_bytes
    for _ in range(pages + 1):  # a sound tree has no more pages than the file
        if not stack:
            return True
        page = stack.pop()
        if page >= pages:
            return False
        try:
            children, end = _references(os.pread(fd, page_bytes, page * page_bytes), page_bytes)
        except error:
            return False
        if end > pages:
            return False
        stack += children
    return False


def _trees_in(data: bytes) -> list[Tree]:
    """Those that a leaf page holds."""
    _, table_end = _PAGE.unpack_from(data)
    trees: list[Tree] = []
    for at in range(_PAGE.size, table_end, 2):
        node = int.from_bytes(data[at : at + 2], sys.byteorder)
        _, node_flags, key_bytes = _LEAF_NODE.unpack_from(data, node)
        if node_flags & _TREE_NODE:
            _, _, depth, root = _TREE.unpack_from(data, node + _LEAF_NODE.size + key_bytes)
            trees.append((root, depth))
    return trees


def _references(data: bytes, page_bytes: int) -> tuple[list[int], int]:
    """Of a page: the tree pages that it refers to, and the end of the overflow pages that it refers to."""
    flags, table_end = _PAGE.unpack_from(data)
    children: list[int] = []
    overflow_end = 0
    for at in range(_PAGE.size, table_end, 2):
        node = int.from_bytes(data[at : at + 2], sys.byteorder)
        if flags & _BRANCH_PAGE:
            low, high, _ = _BRANCH_NODE.unpack_from(data, node)
            children.append(low | high << 32)
        elif flags & _LEAF_PAGE:
            data_bytes, node_flags, key_bytes = _LEAF_NODE.unpack_from(data, node)
            value = node + _LEAF_NODE.size + key_bytes
            if node_flags & _TREE_NODE:
                *_, root = _TREE.unpack_from(data, value)
                children += [root] if root != _NO_PAGE else []
            elif node_flags & _OVERFLOW_NODE:
                (first,) = _PAGE_NUMBER.unpack_from(data, value)
                overflow_end = max(overflow_end, first + -(-(_PAGE.size + data_bytes) // page_bytes))
    return children, overflow_end
