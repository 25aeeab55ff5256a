"""Distinct keys in order, as a list of chunks of at most 1024.

    chunks   [a c f] [g h k] [p q]      lasts   [f k q]

A key is found by two bisections. To insert or remove one moves half a chunk of pointers; when a chunk is full it is divided.
A run of adjacent keys, such as a range that is deleted, is inserted or removed at once: one slice of each chunk instead of a
search for each key. The rank of a key needs the number of keys in all chunks before it: these sums are kept until a key is
inserted or removed, and take 0.02 us a chunk.

Invariants: no chunk is empty or longer than CHUNK_MAX; keys ascend, in a chunk and across; `lasts` holds the last key of each.
Source: the idea is that of sortedcontainers. Departs in: runs; compiled; no step of a load that takes long.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate
from typing import Final

from tercet.errors import require

CHUNK_MAX: Final = 1024
_HALF: Final = CHUNK_MAX // 2
_FEW: Final = CHUNK_MAX // 8  # a shorter chunk is joined to the next one
_SAMPLED: Final = 8  # keys of each chunk that a load looks at to find where chunks begin


class SortedKeys:
    """See the module."""

    __slots__ = ("_chunks", "_lasts", "_length", "_ranks")

    def __init__(self) -> None:
        self._chunks: list[list[bytes]] = []
        self._lasts: list[bytes] = []
        self._length = 0
        self._ranks: list[int] | None = None  # keys in each chunk and those before it, once they are asked for

    def __len__(self) -> int:
        return self._length

    # Changes.

    def add(self, key: bytes) -> None:
        """Insert a key that is absent."""
        lasts = self._lasts
        at = bisect_left(lasts, key)
        self._length += 1
        self._ranks = None
        if at < len(lasts):
            chunk = self._chunks[at]
            chunk.insert(bisect_left(chunk, key), key)
        elif at:
            at -= 1
            chunk = self._chunks[at]
            chunk.append(key)
            lasts[at] = key
        else:
            self._chunks.append([key])
            lasts.append(key)
            return
        if len(chunk) > CHUNK_MAX:
            self._divide(at)

    def remove(self, key: bytes) -> None:
        """Remove a key that is present. Raises InvariantViolation if another key stands in its place."""
        at = bisect_left(self._lasts, key)
        chunk = self._chunks[at]
        position = bisect_left(chunk, key)
        require(chunk[position] == key, "removes a key that is not there", key)
        del chunk[position]
        self._length -= 1
        self._ranks = None
        if position == len(chunk) or len(chunk) < _FEW:
            self._settle(at)

    def add_run(self, keys: list[bytes]) -> None:
        """Insert ascending keys, all of them absent."""
        done, total = 0, len(keys)
        self._length += total
        self._ranks = None
        while done < total:
            at = bisect_left(self._lasts, keys[done])
            if at == len(self._lasts):
                self._append(keys[done:])
                return
            end = bisect_left(keys, self._lasts[at], done)
            part = keys[done:end]
            done = end
            chunk = self._chunks[at]
            first = bisect_left(chunk, part[0])
            if part[-1] < chunk[first]:
                chunk[first:first] = part
            else:
                chunk += part
                chunk.sort()  # two runs that ascend: merged
            if len(chunk) > CHUNK_MAX:
                self._divide(at)

    def _append(self, keys: list[bytes]) -> None:
        """Append ascending keys, all of them greater than those present."""
        if self._chunks:
            self._chunks[-1] += keys
            self._lasts[-1] = keys[-1]
        else:
            self._chunks.append(keys)
            self._lasts.append(keys[-1])
        if len(self._chunks[-1]) > CHUNK_MAX:
            self._divide(len(self._chunks) - 1)

    def remove_run(self, keys: list[bytes]) -> None:
        """Remove ascending keys, all of them present. Raises InvariantViolation if one is absent."""
        done, total = 0, len(keys)
        self._length -= total
        self._ranks = None
        while done < total:
            at = bisect_left(self._lasts, keys[done])
            end = bisect_right(keys, self._lasts[at], done)
            chunk = self._chunks[at]
            first = bisect_left(chunk, keys[done])
            last = first + end - done
            if last <= len(chunk) and chunk[last - 1] == keys[end - 1]:  # nothing between them
                del chunk[first:last]
            else:
                last = bisect_right(chunk, keys[end - 1], first)
                gone = set(keys[done:end])
                left = [key for key in chunk[first:last] if key not in gone]
                require(len(left) + end - done == last - first, "removes keys that are not there", keys[done])
                chunk[first:last] = left
            done = end
            self._settle(at)

    def _divide(self, at: int) -> None:
        """Replace a chunk that is too long by several."""
        chunk = self._chunks[at]
        parts = [chunk[first : first + _HALF] for first in range(0, len(chunk), _HALF)]
        if len(parts[-1]) < _FEW:
            last = parts.pop()
            parts[-1] += last
        self._chunks[at : at + 1] = parts
        self._lasts[at : at + 1] = [part[-1] for part in parts]

    def _settle(self, at: int) -> None:
        """After a chunk has lost keys: keep the invariants, and join it to its neighbour if it is short."""
        chunks, lasts = self._chunks, self._lasts
        chunk = chunks[at]
        if not chunk:
            del chunks[at]
            del lasts[at]
            return
        lasts[at] = chunk[-1]
        if len(chunk) < _FEW and len(chunks) > 1:
            first = at if at + 1 < len(chunks) else at - 1
            joined = chunks[first] + chunks[first + 1]
            if len(joined) <= CHUNK_MAX:
                chunks[first : first + 2] = [joined]
                lasts[first : first + 2] = [joined[-1]]

    def load(self, keys: list[bytes]) -> None:
        """Fill an empty container with keys in any order. No single call in it is long, so that other threads run too."""
        require(not self._length, "loads into keys that are not empty")
        sample = keys[:: _HALF // _SAMPLED]
        sample.sort()
        lasts = sample[_SAMPLED - 1 :: _SAMPLED]
        chunks: list[list[bytes]] = [[] for _ in range(len(lasts) + 1)]
        for key in keys:
            chunks[bisect_left(lasts, key)].append(key)
        for chunk in chunks:
            chunk.sort()
            for first in range(0, len(chunk), CHUNK_MAX):
                part = chunk if len(chunk) <= CHUNK_MAX else chunk[first : first + CHUNK_MAX]
                self._chunks.append(part)
                self._lasts.append(part[-1])
        self._length = len(keys)
        self._ranks = None

    # Reads.

    def first(self, start: bytes, end: bytes | None, limit: int) -> list[bytes]:
        """The first keys of [start, end), at most `limit`; None: no end."""
        if end is not None and end <= start:
            return []
        chunks = self._chunks
        at = bisect_left(self._lasts, start)
        found: list[bytes] = []
        if at == len(chunks):
            return found
        chunk = chunks[at]
        position = bisect_left(chunk, start)
        while True:
            stop = min(position + limit - len(found), len(chunk))
            if end is not None and chunk[stop - 1] >= end:
                return found + chunk[position : bisect_left(chunk, end, position, stop)]
            part = chunk[position:stop]
            found = found + part if found else part
            at += 1
            if len(found) == limit or at == len(chunks):
                return found
            chunk = chunks[at]
            position = 0

    def last(self, start: bytes, end: bytes | None, limit: int) -> list[bytes]:
        """The last keys of [start, end), at most `limit`, in descending order; None: no end."""
        if end is not None and end <= start:
            return []
        chunks = self._chunks
        at = len(chunks) if end is None else bisect_left(self._lasts, end)
        found: list[bytes] = []
        if at == len(chunks):
            at -= 1
        while at >= 0:
            chunk = chunks[at]
            stop = len(chunk) if end is None or chunk[-1] < end else bisect_left(chunk, end)
            position = max(stop - limit + len(found), bisect_left(chunk, start, 0, stop))
            part = chunk[position:stop]
            part.reverse()
            found += part
            if len(found) == limit or position > 0:
                return found
            at -= 1
        return found

    def count(self, start: bytes, end: bytes | None) -> int:
        """The number of keys in [start, end); None: no end."""
        until = self._length if end is None else self._rank(end)
        return max(0, until - self._rank(start))

    def _rank(self, key: bytes) -> int:
        """How many keys are less than `key`."""
        at = bisect_left(self._lasts, key)
        if at == len(self._lasts):
            return self._length
        position = bisect_left(self._chunks[at], key)
        if at == 0:
            return position
        ranks = self._ranks
        if ranks is None:
            ranks = self._ranks = list(accumulate(map(len, self._chunks)))
        return ranks[at - 1] + position

    def all(self) -> list[bytes]:
        """All keys, in one go."""
        return [key for chunk in self._chunks for key in chunk]

    def check(self) -> None:
        """All invariants, by a full walk: for tests and the simulator."""
        keys = self.all()
        require(keys == sorted(set(keys)), "keys do not ascend")
        require(len(keys) == self._length, "another number of keys")
        require(all(0 < len(chunk) <= CHUNK_MAX for chunk in self._chunks), "a chunk is empty or too long")
        require([chunk[-1] for chunk in self._chunks] == self._lasts, "other last keys than those of the chunks")
