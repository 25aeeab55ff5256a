"""One generation of the database: an LMDB file with a bucket in each of its named tables.

The backend lives in a directory of its own. `%016x.lmdb` are its generations, the highest one is the truth: a file gets such a
name only when it is whole and durable, so that whoever finds two of them (a crash came between the rename and the removal)
takes the newer. Any other file is the unfinished work of a defragmentation or of a snapshot's reception, and is removed at the
next start.

LMDB's map is far larger than any quota: it costs only address space, so it is never full and never resized under a reader.
Commits are durable (data pages, fdatasync, then the root page): the file is whole after any power cut, at the last commit.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, Final

import lmdb

from tercet.errors import StorageFailure
from tercet.storage.interfaces import Bucket
from tercet.storage.long_keys import KEY_BYTES_MAX, unpack
from tercet.storage.os_filesystem import DIRECTORY_MODE, FILE_MODE, storage_failure

MAP_BYTES: Final = 1 << 40
CONSISTENT_INDEX: Final = b"consistent_index"
TERM: Final = b"term"
_GENERATION: Final = re.compile(r"([0-9a-f]{16})\.lmdb")
_LOCK_SUFFIX: Final = "-lock"
_CHUNK: Final = 256


Changes = tuple[Bucket, Sequence[tuple[bytes, bytes]], Sequence[bytes]]
"""Of one bucket: what to put, and which keys to delete."""


class LmdbFile:
    """An open file. Reading is free for all threads, each with its own transaction; writing belongs to the writer's thread."""

    def __init__(self, path: str, *, map_bytes: int = MAP_BYTES, sync: bool = True) -> None:
        """sync=False: durable only after `sync`, for a file that nobody relies on yet."""
        self.path = path
        self.views: set[object] = set()  # who reads from it beside the backend itself
        self._retired = False
        try:
            self.env = lmdb.open(
                path,
                map_size=map_bytes,
                subdir=False,
                max_dbs=len(Bucket),
                mode=FILE_MODE,
                sync=sync,
                max_readers=510,
                max_spare_txns=1,
            )
            self.tables = {bucket: self.env.open_db(bucket.value) for bucket in Bucket}
        except lmdb.Error as error:
            raise lmdb_failure(path, error) from error
        self._txn: Any = None

    # --- writing

    def write(self, changes: Iterable[Changes]) -> None:
        """Into the transaction that the next `commit` ends."""
        try:
            if self._txn is None:
                self._txn = self.env.begin(write=True)
            for bucket, puts, deletes in changes:
                table = self.tables[bucket]
                if puts:
                    cursor = self._txn.cursor(table)
                    # Revisions mostly rise: appended pages are packed full. A key out of order is refused, and all go again.
                    consumed, added = cursor.putmulti(puts, append=True)
                    if added != consumed:
                        cursor.putmulti(puts)
                    cursor.close()
                for key in deletes:
                    self._txn.delete(key, db=table)
        except lmdb.Error as error:
            raise lmdb_failure(self.path, error) from error

    def commit(self, index: int, term: int) -> None:
        """Make durable all that was written, as the state after entry `index`."""
        meta = [(CONSISTENT_INDEX, index.to_bytes(8, "big")), (TERM, term.to_bytes(8, "big"))]
        self.write([(Bucket.META, meta, [])])
        self.commit_part()

    def commit_part(self) -> None:
        txn, self._txn = self._txn, None
        if txn is not None:
            try:
                txn.commit()
            except lmdb.Error as error:
                raise lmdb_failure(self.path, error) from error

    def sync(self) -> None:
        try:
            self.env.sync(True)
        except lmdb.Error as error:
            raise lmdb_failure(self.path, error) from error

    # --- reading

    def begin(self) -> Any:
        try:
            return self.env.begin()
        except lmdb.Error as error:
            raise lmdb_failure(self.path, error) from error

    def point(self) -> tuple[int, int]:
        """Index and term of the newest commit; zeros before the first."""
        with self.begin() as txn:
            meta = self.tables[Bucket.META]
            index, term = (int.from_bytes(txn.get(key, b"", meta), "big") for key in (CONSISTENT_INDEX, TERM))
        return index, term

    def sizes(self) -> tuple[int, int]:
        """Bytes of the file and of the pages in use. A page in use holds a table's nodes, or one of the two roots."""
        info = self.env.info()
        with self.begin() as txn:
            stats = [self.env.stat(), *(txn.stat(table) for table in self.tables.values())]
        pages = 2 + sum(stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"] for stat in stats)
        page_bytes = stats[0]["psize"]
        return (info["last_pgno"] + 1) * page_bytes, pages * page_bytes

    # --- the end

    def retire(self) -> None:
        """Another generation has taken over. The last view to be closed closes the file."""
        self._retired = True
        remove_generation(self.path)
        self.close_if_unused()

    def close_if_unused(self) -> None:
        if self._retired and not self.views:
            self.env.close()

    def abort(self) -> None:
        """Forget what was written since the last commit; in the thread that wrote it."""
        txn, self._txn = self._txn, None
        if txn is not None:
            txn.abort()

    def close(self) -> None:
        self.env.close()


def chunks(txn: Any, table: Any, start: bytes) -> Generator[list[tuple[bytes, bytes]], None, None]:
    """The records from `start` on, as they are stored, some hundred at a time."""
    with txn.cursor(table) as cursor:
        if cursor.set_range(start) if start else cursor.first():
            records = cursor.iternext()
            while chunk := list(islice(records, _CHUNK)):
                yield chunk


def unpacked(records: Iterable[tuple[bytes, bytes]], start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
    """Stored records as the keys that were put, within start <= key < end."""
    for stored, value in records:
        if len(stored) <= KEY_BYTES_MAX:
            if end is not None and stored >= end:
                return
            yield stored, value
        else:
            for key, part in unpack(stored, value).items():
                if start <= key and (end is None or key < end):
                    yield key, part


def lmdb_failure(path: str, error: lmdb.Error) -> StorageFailure:
    text = f"database {path}: {error}"
    with suppress(OSError):  # LMDB calls a write that a full disk cut short an input/output error
        room = os.statvfs(path)
        text += f" ({room.f_bavail * room.f_frsize} bytes are free on its disk)"
    return StorageFailure(text)


# --- the directory of generations


def generations(directory: str) -> list[int]:
    """Numbers of the whole files, ascending."""
    matches = map(_GENERATION.fullmatch, os.listdir(directory))
    return sorted(int(match.group(1), 16) for match in matches if match)


def generation_path(directory: str, number: int) -> str:
    return os.path.join(directory, f"{number:016x}.lmdb")


def open_newest(directory: str, *, map_bytes: int = MAP_BYTES) -> tuple[LmdbFile, int]:
    """The newest generation, the first one if there is none yet. What a crash left beside it is removed."""
    try:
        os.makedirs(directory, DIRECTORY_MODE, exist_ok=True)
        numbers = generations(directory)
        keep = generation_path(directory, max(numbers)) if numbers else None
        for name in os.listdir(directory):
            path = os.path.join(directory, name)
            if keep is None or path not in (keep, keep + _LOCK_SUFFIX):
                os.unlink(path)
        if keep is None:
            file = LmdbFile(os.path.join(directory, "first.tmp"), map_bytes=map_bytes)
            file.sync()
            promote(file, generation_path(directory, 0))
        else:
            file = LmdbFile(keep, map_bytes=map_bytes)
            sync_directory(directory)
        sync_directory(os.path.dirname(os.path.abspath(directory)))
    except OSError as error:
        raise storage_failure("open database", directory, error) from error
    return file, max(numbers, default=0)


def promote(file: LmdbFile, path: str) -> None:
    """Give a whole and durable file the name of a generation: the one step by which it becomes the truth."""
    try:
        os.rename(file.path + _LOCK_SUFFIX, path + _LOCK_SUFFIX)
        os.rename(file.path, path)
        sync_directory(os.path.dirname(path))
    except OSError as error:
        raise storage_failure(f"rename {file.path} to", path, error) from error
    file.path = path


def remove_generation(path: str) -> None:
    """Also of an unfinished one, or of what there is of it."""
    for name in (path, path + _LOCK_SUFFIX):
        try:
            os.unlink(name)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise storage_failure("remove", name, error) from error


def discard_unfinished(path: str) -> None:
    """Remove what came to nothing. If even that fails, the next start does it: there is a better error to tell."""
    with suppress(StorageFailure):
        remove_generation(path)


def sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
