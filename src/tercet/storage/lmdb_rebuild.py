"""A new database file from a stream of records, made from a received snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import groupby
from math import inf
from operator import itemgetter
from typing import Final

from tercet.errors import StorageFailure
from tercet.storage.interfaces import Bucket
from tercet.storage.lmdb_file import CONSISTENT_INDEX, TERM, Changes, LmdbFile, discard_unfinished, remove_generation
from tercet.storage.lmdb_view import LmdbView
from tercet.storage.lmdb_writer import LmdbWriter
from tercet.storage.long_keys import KEY_BYTES_MAX, pack_key, with_change

Item = tuple[Bucket, bytes, bytes]

SLICE_ITEMS: Final = 2500
SLICE_BYTES: Final = 4 << 20  # of values, about
PART_BYTES: Final = 32 << 20  # per transaction; LMDB holds uncommitted pages in memory


class StagedFile:
    """A complete database beside the one in use, durable, not yet named as a generation. See `interfaces.Staged`."""

    def __init__(self, file: LmdbFile, point: tuple[int, int]) -> None:
        self.file = file
        self.point = point
        self.is_spent = False

    def view(self) -> LmdbView:
        return LmdbView(self.file, seconds_max=inf, on_close=_nothing)

    def discard(self) -> None:
        if not self.is_spent:
            self.is_spent = True
            self.file.close()
            discard_unfinished(self.file.path)


def stage(path: str, items: Iterable[Item], point: tuple[int, int], *, map_bytes: int) -> StagedFile:
    """A file at `path` with `items`. Its point (index, term) is the one given or the one among the items, the larger.

    May run in any thread. If `items` raises, the file is removed and the error propagates.
    """
    remove_generation(path)
    writer = LmdbWriter(None)  # its own: this takes long, and the backend's must not wait for it
    unsafe = LmdbFile(path, map_bytes=map_bytes, sync=False)
    try:
        point = _fill(writer, unsafe, items, point)
        writer.do(unsafe.sync)
    except BaseException:
        writer.do(unsafe.abort)
        unsafe.close()
        remove_generation(path)
        raise
    finally:
        writer.stop()
    unsafe.close()
    return StagedFile(LmdbFile(path, map_bytes=map_bytes), point)


def _nothing(view: LmdbView) -> None:
    """Views of a staged file are not counted."""


def _fill(writer: LmdbWriter, file: LmdbFile, items: Iterable[Item], point: tuple[int, int]) -> tuple[int, int]:
    source = iter(items)
    packs: dict[tuple[Bucket, bytes], bytes] = {}
    own = {CONSISTENT_INDEX: 0, TERM: 0}
    pending = 0
    while part := _slice(source):
        for bucket, key, value in part:
            pending += len(key) + len(value)
            if len(key) > KEY_BYTES_MAX:
                pack = with_change(pack_key(key), packs.get((bucket, pack_key(key))), key, value)
                packs[bucket, pack_key(key)] = pack or b""
            elif bucket is Bucket.META and key in own:
                own[key] = int.from_bytes(value, "big")
            elif not key:
                raise StorageFailure(f"a record of bucket {bucket.name} has no key")
        writer.do(partial(file.write, _by_bucket(part)))
        if pending > PART_BYTES:
            writer.do(file.commit_part)
            pending = 0
    writer.do(partial(file.write, [(bucket, [(key, pack)], ()) for (bucket, key), pack in packs.items()]))
    point = max(point, (own[CONSISTENT_INDEX], own[TERM]))
    writer.do(partial(file.commit, *point))
    return point


def _slice(source: Iterator[Item]) -> list[Item]:
    """The next items; none at the end."""
    part: list[Item] = []
    size = 0
    for item in source:
        part.append(item)
        size += len(item[2])
        if len(part) >= SLICE_ITEMS or size >= SLICE_BYTES:
            break
    return part


def _by_bucket(part: list[Item]) -> list[Changes]:
    changes: list[Changes] = []
    for bucket, items in groupby(part, key=itemgetter(0)):
        changes.append((bucket, [(key, value) for _, key, value in items if len(key) <= KEY_BYTES_MAX], ()))
    return changes
