"""Writer of bbolt files: streams a store of any size, without holding it in memory or writing it to disk.

A bbolt file begins with its metas, which refer to its end: the root page and the high-water mark. So the source is read twice,
at one point in time. `measure` lays the file out and only counts pages; `Image.chunks` lays it out again and emits bytes, metas
first. Both use the same layout code, so they differ only if the source changed in between, which is detected. (The alternative,
a temporary file whose metas are written last, would write the whole store to the disk of a serving member; and
Maintenance.Snapshot must announce the remaining bytes in its first message anyway.)

Trees are built from the left, with one open page per level. A full leaf is emitted, and its first key goes to the open branch
above, which is emitted when it is full in turn. Memory is one page per level and one chunk, for any number of keys. The root is
the last page:

    0 meta  1 meta  2 leaf  3 leaf  4 branch(2 3)  5 leaf of the next bucket  6 leaf of buckets(4 5)

No page is free and no freelist is stored, which is also how etcd runs bbolt. Buckets are never written inline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple, Protocol, TypeAlias

from tercet.bolt.format import (
    BRANCH_ELEMENT,
    BRANCH_PAGE,
    BUCKET_ELEMENT,
    BUCKET_HEADER,
    HEADER_BYTES,
    KEY_BYTES_MAX,
    LEAF_ELEMENT,
    LEAF_PAGE,
    NO_FREELIST,
    PAGE_HEADER,
    PAGE_SIZE,
    VALUE_BYTES_MAX,
    Meta,
    encode_meta_page,
)
from tercet.errors import require

Items: TypeAlias = Iterable[tuple[bytes, bytes]]
Source: TypeAlias = Callable[[], Iterable[tuple[bytes, Items]]]
"""Returns buckets in order of name, each with its items in order of key; the same at every call."""

CHUNK_BYTES: Final = 32768  # Maintenance.Snapshot's blobs
_TXID: Final = 2  # even, so that the next commit goes to page 1, and page 0 remains as the spare
_BODY_BYTES_MAX: Final = PAGE_SIZE - HEADER_BYTES
_BRANCH_CHILDREN_MIN: Final = 2


def measure(source: Source) -> Image:
    """Lay the file out without writing it. Raises InvariantViolation if names or keys are out of order, empty or too long."""
    counter = _Counter()
    for _ in _lay_out(source, counter):
        pass
    return Image(source, Meta(PAGE_SIZE, counter.root, NO_FREELIST, counter.next_page, _TXID))


class Image:
    """A file whose layout is known, and whose bytes are not made yet."""

    def __init__(self, source: Source, meta: Meta) -> None:
        self._source = source
        self._meta = meta

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self._meta.file_bytes

    def chunks(self, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
        """The file from its first byte to its last, each chunk `chunk_bytes` long but for the last one.

        Raises InvariantViolation if the source has changed since it was measured.
        """
        emitter = _Emitter()
        out = emitter.out
        # Both metas name the same root. A reader picks page 0; page 1, one transaction older, is the spare.
        out += encode_meta_page(0, self._meta) + encode_meta_page(1, self._meta._replace(txid=_TXID - 1))
        for _ in _lay_out(self._source, emitter):
            if len(out) >= chunk_bytes:
                require(emitter.next_page <= self._meta.high_water, "the source grew between two passes")
                yield from _full_chunks(out, chunk_bytes)
        written = (emitter.root, emitter.next_page)
        require(written == (self._meta.root, self._meta.high_water), "the source changed between two passes", written)
        yield from _full_chunks(out, chunk_bytes)
        if out:
            yield bytes(out)


def _full_chunks(out: bytearray, chunk_bytes: int) -> Iterator[bytes]:
    """Take whole chunks off the front of `out`."""
    end = len(out) - len(out) % chunk_bytes
    view = bytes(out[:end])
    del out[:end]
    for start in range(0, end, chunk_bytes):
        yield view[start : start + chunk_bytes]


class _Leaf(NamedTuple):
    items: list[tuple[bytes, bytes]]
    body_bytes: int


class _Sink(Protocol):
    """Consumer of pages; assigns their ids, in order."""

    next_page: int
    root: int

    def leaf(self, leaf: _Leaf, flags: int) -> int: ...
    def branch(self, children: list[tuple[bytes, int]], body_bytes: int) -> int: ...


def _lay_out(source: Source, sink: _Sink) -> Iterator[None]:
    """Emit all pages, set `sink.root`; after each leaf the caller may empty the sink."""
    buckets: list[tuple[bytes, bytes]] = []  # etcd has ten; only this list grows with their number
    for name, items in source():
        tree = _Branches(sink)
        for leaf in _leaves(items):
            page = sink.leaf(leaf, 0)
            tree.add(leaf.items[0][0] if leaf.items else b"", page)
            yield
        buckets.append((name, BUCKET_HEADER.pack(tree.finish(), 0)))
    root = _Branches(sink)
    for leaf in _leaves(buckets):
        root.add(leaf.items[0][0] if leaf.items else b"", sink.leaf(leaf, BUCKET_ELEMENT))
    sink.root = root.finish()


def _leaves(items: Items) -> Iterator[_Leaf]:
    """Split sorted items into pages. An item larger than a page gets a page run of its own; no items make one empty leaf."""
    page: list[tuple[bytes, bytes]] = []
    used = 0
    last = b""
    for item in items:
        key, value = item
        if key <= last:
            require(False, "keys out of order, twice or empty", last, key)
        last = key
        size = HEADER_BYTES + len(key) + len(value)
        if size > _BODY_BYTES_MAX:
            require(len(key) <= KEY_BYTES_MAX, "key too long for bbolt", len(key))
            require(len(value) <= VALUE_BYTES_MAX, "value too long for bbolt", len(value))
        if used + size > _BODY_BYTES_MAX and page:
            yield _Leaf(page, used)
            page = []
            used = 0
        page.append(item)
        used += size
    yield _Leaf(page, used)


class _Level:
    """The open page of one level of branches."""

    __slots__ = ("body_bytes", "children")

    def __init__(self, children: list[tuple[bytes, int]]) -> None:
        self.children = children
        self.body_bytes = sum(HEADER_BYTES + len(key) for key, _ in children)


class _Branches:
    """The levels of branches of one tree, lowest first."""

    def __init__(self, sink: _Sink) -> None:
        self._sink = sink
        self._levels: list[_Level] = [_Level([])]

    def add(self, first_key: bytes, page: int, depth: int = 0) -> None:
        """Append `page` to the tree."""
        if depth == len(self._levels):
            self._levels.append(_Level([]))
        level = self._levels[depth]
        level.children.append((first_key, page))
        level.body_bytes += HEADER_BYTES + len(first_key)
        # A page is closed only when the next one can begin with two children: bbolt has no branch with one.
        if level.body_bytes > _BODY_BYTES_MAX and len(level.children) >= 2 * _BRANCH_CHILDREN_MIN:
            self._levels[depth] = _Level(level.children[-_BRANCH_CHILDREN_MIN:])
            self._close(_Level(level.children[:-_BRANCH_CHILDREN_MIN]), depth)

    def finish(self) -> int:
        """Close the open pages, lowest first. Returns the root page."""
        depth = 0
        while True:
            level = self._levels[depth]
            if len(level.children) == 1 and depth == len(self._levels) - 1:
                return level.children[0][1]
            self._close(level, depth)
            depth += 1

    def _close(self, level: _Level, depth: int) -> None:
        page = self._sink.branch(level.children, level.body_bytes)
        self.add(level.children[0][0], page, depth + 1)


def _pages_for(body_bytes: int) -> int:
    return max(1, -(-(HEADER_BYTES + body_bytes) // PAGE_SIZE))


class _Counter:
    """The sink of `measure`: counts pages."""

    def __init__(self) -> None:
        self.next_page = 2
        self.root = 0

    def leaf(self, leaf: _Leaf, flags: int) -> int:
        return self._take(leaf.body_bytes)

    def branch(self, children: list[tuple[bytes, int]], body_bytes: int) -> int:
        return self._take(body_bytes)

    def _take(self, body_bytes: int) -> int:
        page = self.next_page
        self.next_page += _pages_for(body_bytes)
        return page


class _Emitter(_Counter):
    """The sink of `Image.chunks`: assigns the same ids, and appends the pages' bytes to `out`."""

    def __init__(self) -> None:
        super().__init__()
        self.out = bytearray()

    def leaf(self, leaf: _Leaf, flags: int) -> int:
        elements: list[bytes] = []
        contents: list[bytes] = []
        pos = HEADER_BYTES * len(leaf.items)
        pack = LEAF_ELEMENT.pack
        for item in leaf.items:
            key, value = item
            elements.append(pack(flags, pos, len(key), len(value)))
            contents += item
            pos += len(key) + len(value) - HEADER_BYTES  # the next element is nearer to its key by one element
        return self._page(LEAF_PAGE, len(elements), elements + contents, leaf.body_bytes)

    def branch(self, children: list[tuple[bytes, int]], body_bytes: int) -> int:
        elements: list[bytes] = []
        pos = HEADER_BYTES * len(children)
        for key, child in children:
            elements.append(BRANCH_ELEMENT.pack(pos, len(key), child))
            pos += len(key) - HEADER_BYTES
        elements += [key for key, _ in children]
        return self._page(BRANCH_PAGE, len(children), elements, body_bytes)

    def _page(self, flags: int, count: int, body: list[bytes], body_bytes: int) -> int:
        page = self._take(body_bytes)
        pages = _pages_for(body_bytes)
        self.out += PAGE_HEADER.pack(page, flags, count, pages - 1)
        self.out += b"".join(body)
        self.out += bytes(pages * PAGE_SIZE - HEADER_BYTES - body_bytes)
        return page
