"""One generation of the database: an LMDB file with one named table per bucket.

The backend has a directory of its own. `%016x.lmdb` are its generations, and the one with the highest number is current: a file
gets such a name only when it is complete and durable. Two of them remain where a crash came between the rename of a new one and
the removal of the old one. A damaged file that is being replaced is `*.damaged` (lmdb_damaged.py). Any other file is an
unfinished defragmentation or received snapshot, removed at the next start.

Each record has a checksum (checksums.py). Reads verify it; a wrong one is reported by `on_corruption`, and raised.

An open file is locked (flock): a second process, however it came to the file, is refused before it changes anything.

LMDB's map is far larger than any quota. It costs only address space, is never full, and is never resized under a reader.
Commits are durable (data pages, fdatasync, then the root page): after a power cut the file is intact, at the last commit.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

import lmdb

from tercet.errors import CorruptRecord, DamagedDatabase, StorageFailure
from tercet.storage.checksums import corrupt_record, protect, read_chunk, seed_of, verify
from tercet.storage.interfaces import Bucket
from tercet.storage.lmdb_damaged import DAMAGED_SUFFIX
from tercet.storage.lmdb_pages import check_complete, check_pages
from tercet.storage.long_keys import KEY_BYTES_MAX, unpack
from tercet.storage.os_filesystem import FILE_MODE, lock, make_directories, storage_failure, sync_directory

MAP_BYTES: Final = 1 << 40
CONSISTENT_INDEX: Final = b"consistent_index"
TERM: Final = b"term"
SEEDS: Final = {bucket: seed_of(bucket) for bucket in Bucket}
_FORMAT: Final = (b"tercet format", b"2")  # in the unnamed table; 1 had no checksums, and no such record
_GENERATION: Final = re.compile(r"([0-9a-f]{16})\.lmdb")
_LOCK_SUFFIX: Final = "-lock"
_DAMAGE: Final = (lmdb.CorruptedError, lmdb.InvalidError, lmdb.PageNotFoundError, lmdb.VersionMismatchError)
_CHUNK_RECORDS: Final = 256
_CHUNK_BYTES: Final = 1 << 20


Changes = tuple[Bucket, Sequence[tuple[bytes, bytes]], Sequence[bytes]]
"""Of one bucket: records to put, and keys to delete."""


class LmdbFile:
    """An open file. Any thread may read, each with a transaction of its own; only the writer thread may write."""

    def __init__(self, path: str, *, map_bytes: int = MAP_BYTES, sync: bool = True, fd: int | None = None) -> None:
        """Open the file, and create it unless its name is a generation's.

        sync=False: durable only after `sync`, for a file that is not in use yet.
        fd: the open and locked file, if the caller has it; closed by `close`, or on failure.
        """
        self.path = path
        self._fd = open_locked(path) if fd is None else fd
        self.views: set[object] = set()  # readers other than the backend itself
        self.on_corruption: Callable[[CorruptRecord], None] | None = None
        self._retired = False
        try:
            if os.fstat(self._fd).st_size or _is_generation(path):  # an empty file is a new database to LMDB
                check_complete(self._fd, path)
                check_pages(self._fd, path)
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
            self._check_format()
            self.tables = {bucket: self.env.open_db(bucket.value) for bucket in Bucket}
        except lmdb.Error as error:
            os.close(self._fd)
            raise lmdb_failure(path, error) from error
        except BaseException:
            os.close(self._fd)
            raise
        self._txn: Any = None

    # --- writing

    def write(self, changes: Iterable[Changes]) -> None:
        """Into the transaction that the next `commit` commits."""
        try:
            if self._txn is None:
                self._txn = self.env.begin(write=True)
            for bucket, puts, deletes in changes:
                table = self.tables[bucket]
                if puts:
                    cursor = self._txn.cursor(table)
                    puts = protect(SEEDS[bucket], puts)
                    # Revisions mostly rise, and appending fills pages. If LMDB refuses a key out of order, put all again.
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
            self._extend()

    def _extend(self) -> None:
        """Make the file as long as its meta says, so that the next open need not search it for lost pages (lmdb_pages.py)."""
        size = (self.env.info()["last_pgno"] + 1) * self.env.stat()["psize"]
        if os.fstat(self._fd).st_size < size:
            os.ftruncate(self._fd, size)  # sparse: costs no space

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
            index, term = (int.from_bytes(self.get(txn, Bucket.META, key) or b"", "big") for key in (CONSISTENT_INDEX, TERM))
        return index, term

    def get(self, txn: Any, bucket: Bucket, key: bytes) -> bytes | None:
        stored = txn.get(key, None, self.tables[bucket])
        return None if stored is None else self.verified(bucket, key, stored)

    def verified(self, bucket: Bucket, key: bytes, stored: bytes) -> bytes:
        """The value of a stored record. Raises CorruptRecord."""
        value = verify(SEEDS[bucket], key, stored)
        if value is None:
            raise self.corrupt(bucket, key, stored)
        return value

    def corrupt(self, bucket: Bucket, key: bytes, stored: bytes) -> CorruptRecord:
        """Report a record with a wrong checksum. Returns the error to raise."""
        record = corrupt_record(self.path, bucket, key, stored)
        if self.on_corruption is not None:
            self.on_corruption(record)
        return record

    def chunks(self, txn: Any, bucket: Bucket, start: bytes) -> Generator[list[tuple[bytes, bytes]], None, None]:
        """Records from `start` on, in lists of up to 256. Raises CorruptRecord, after the records before it."""
        with txn.cursor(self.tables[bucket]) as cursor:
            if cursor.set_range(start) if start else cursor.first():
                records = cursor.iternext()
                while True:
                    chunk, corrupt = read_chunk(SEEDS[bucket], records, _CHUNK_RECORDS, _CHUNK_BYTES)
                    if chunk:
                        yield chunk
                    if corrupt is not None:
                        raise self.corrupt(bucket, *corrupt)
                    if not chunk:
                        return

    def sizes(self) -> tuple[int, int]:
        """Bytes of the file and of its pages in use: those with nodes of a table, and the two meta pages."""
        info = self.env.info()
        with self.begin() as txn:
            stats = [self.env.stat(), *(txn.stat(table) for table in self.tables.values())]
        pages = 2 + sum(stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"] for stat in stats)
        page_bytes = stats[0]["psize"]
        return (info["last_pgno"] + 1) * page_bytes, pages * page_bytes

    def _check_format(self) -> None:
        """A new file gets the format's record. Raises StorageFailure for a file of another format."""
        key, expected = _FORMAT
        with self.env.begin() as txn:
            found, is_new = txn.get(key), txn.stat()["entries"] == 0
        if is_new:
            with self.env.begin(write=True) as txn:
                txn.put(key, expected)
        elif found != expected:
            number = 1 if found is None else found.decode(errors="replace")
            raise StorageFailure(
                f"database {self.path} has format {number}, and this version of tercet needs {expected.decode()}: remove the "
                "member from the cluster, and add it again with an empty data directory"
            )

    # --- closing

    def retire(self) -> None:
        """Remove it: another generation is current. The file stays open until its last view closes."""
        self._retired = True
        remove_generation(self.path)
        self.close_if_unused()

    def close_if_unused(self) -> None:
        if self._retired and not self.views:
            self.close()

    def abort(self) -> None:
        """Drop what was written since the last commit. Call it in the thread that wrote."""
        txn, self._txn = self._txn, None
        if txn is not None:
            txn.abort()

    def close(self) -> None:
        self.env.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def unpacked(records: Iterable[tuple[bytes, bytes]], start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
    """Stored records as the pairs that were put (long_keys.py), within start <= key < end."""
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
    if isinstance(error, _DAMAGE):
        return DamagedDatabase(f"database {path} is damaged: {error}")
    text = f"database {path}: {error}"
    with suppress(OSError):  # LMDB reports a short write on a full disk as an input/output error
        disk = os.statvfs(path)
        text += f" ({disk.f_bavail * disk.f_frsize} bytes are free on its disk)"
    return StorageFailure(text)


# --- the directory of generations


def generations(directory: str) -> list[int]:
    """Numbers of the complete files, ascending."""
    matches = map(_GENERATION.fullmatch, os.listdir(directory))
    return sorted(int(match.group(1), 16) for match in matches if match)


def generation_path(directory: str, number: int) -> str:
    return os.path.join(directory, f"{number:016x}.lmdb")


def _is_generation(path: str) -> bool:
    return _GENERATION.fullmatch(os.path.basename(path)) is not None


def open_locked(path: str) -> int:
    """A descriptor of the file, locked; created unless its name is a generation's. Raises StorageFailure."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | (0 if _is_generation(path) else os.O_CREAT), FILE_MODE)
    except OSError as error:
        raise storage_failure("open", path, error) from error
    try:
        lock(fd, path)
    except StorageFailure:
        os.close(fd)
        raise
    return fd


def open_newest(directory: str, *, map_bytes: int = MAP_BYTES) -> tuple[LmdbFile, int]:
    """The newest generation, created if there is none yet, and its number. Removes what a crash left beside it.

    Raises StorageFailure, also if another process has it open; nothing is changed then.
    """
    try:
        make_directories(directory)
        numbers = generations(directory)
        path = generation_path(directory, numbers[-1]) if numbers else os.path.join(directory, "first.tmp")
        fd = open_locked(path)
        try:
            if generations(directory) != numbers:  # its owner has made a new one
                raise StorageFailure(f"{path} is locked by another process")
            if numbers:
                # The process before may have ended between the rename of this file and its sync. A power cut that took the
                # rename back, and kept the removal of what it replaced, would leave no database.
                sync_directory(directory)
            for name in os.listdir(directory):
                other = os.path.join(directory, name)
                if other not in (path, path + _LOCK_SUFFIX) and not other.endswith(DAMAGED_SUFFIX):
                    os.unlink(other)
            if not numbers:
                os.ftruncate(fd, 0)
        except BaseException:
            os.close(fd)
            raise
        file = LmdbFile(path, map_bytes=map_bytes, fd=fd)
        # Its newest commit may be in the page cache only, for the same reason; the log is going to be cut after it.
        file.sync()
        if not numbers:
            promote(file, generation_path(directory, 0))
        sync_directory(os.path.dirname(os.path.abspath(directory)))
    except OSError as error:
        raise storage_failure("open database", directory, error) from error
    return file, max(numbers, default=0)


def promote(file: LmdbFile, path: str) -> None:
    """Rename a complete and durable file to a generation's name; by this one step it becomes current."""
    try:
        os.rename(file.path + _LOCK_SUFFIX, path + _LOCK_SUFFIX)
        os.rename(file.path, path)
        sync_directory(os.path.dirname(path))
    except OSError as error:
        raise storage_failure(f"rename {file.path} to", path, error) from error
    file.path = path


def remove_generation(path: str) -> None:
    """Remove a file, complete or not, and its lock file. Absence is fine."""
    for name in (path, path + _LOCK_SUFFIX):
        try:
            os.unlink(name)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise storage_failure("remove", name, error) from error


def discard_unfinished(path: str) -> None:
    """Remove a failed file. If that fails too, the next start removes it; the caller reports the first error."""
    with suppress(StorageFailure):
        remove_generation(path)
