"""A member's disk: after a crash it holds what was synced, and of the rest each sector by chance.

The file system is sim/filesystem.py. This module adds power cuts and failures of single operations, drawn from the run's
faults, and damage to the medium. `has_failed` tells a stop that the disk caused from one that a bug caused.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from tercet.errors import StorageFailure
from tercet.sim.clock import MICROSECONDS, MILLISECOND
from tercet.sim.faults import Faults
from tercet.sim.filesystem import SimulatedFileSystem
from tercet.storage import wal_format
from tercet.storage.interfaces import File
from tercet.storage.wal_recovery import segment_numbers, segment_path

SEGMENT_BYTES: Final = 16 * 1024  # small, so that a short run fills several segments


class PowerCut(Exception):
    """The power failed."""


class Disk:
    """A member's file system over all incarnations. `syncs_left`: after so many syncs, the power fails at the next."""

    def __init__(self, random: Random, faults: Callable[[], Faults]) -> None:
        self.files = SimulatedFileSystem()
        self.syncs_left: int | None = None
        self.has_failed = False
        self.rotten: tuple[str, int] | None = None  # path and bit
        self._random = random
        self._faults = faults

    # --- the file system

    def open(self, path: str, *, create: bool = False) -> File:
        return _FaultyFile(self.files.open(path, create=create), self)

    def exists(self, path: str) -> bool:
        return self.files.exists(path)

    def list(self, directory: str) -> list[str]:
        return self.files.list(directory)

    def make_directory(self, path: str) -> None:
        self.files.make_directory(path)

    def rename(self, old: str, new: str) -> None:
        self.files.rename(old, new)

    def remove(self, path: str) -> None:
        self.files.remove(path)

    def sync_directory(self, path: str) -> None:
        self.before_sync()
        self.files.sync_directory(path)

    # --- faults of operations

    def before_sync(self) -> None:
        """Raises PowerCut, or StorageFailure."""
        if self.syncs_left is not None:
            if self.syncs_left == 0:
                raise PowerCut
            self.syncs_left -= 1
        self.fail(self._faults().failed_sync, "fdatasync: input/output error")

    def before_read(self) -> None:
        self.fail(self._faults().failed_read, "read: input/output error")

    def before_write(self) -> None:
        if self.files.space_left is not None and self.files.space_left <= 0:
            self.has_failed = True
            raise StorageFailure("write: no space left on device")

    def fail(self, chance: float, text: str) -> None:
        """Raises StorageFailure by chance."""
        if chance and self._random.random() < chance:
            self.has_failed = True
            raise StorageFailure(text)

    def cut_power_soon(self) -> None:
        """The power fails at one of the next syncs."""
        self.syncs_left = self._random.randrange(6)

    def fill_up(self) -> None:
        """Leave a few kilobytes."""
        self.fill(self._random.choice((0, 1000, 20_000)))

    def fill(self, space_left: int) -> None:
        """Leave so many bytes."""
        self.files.space_left = space_left
        self.has_failed = True

    def latency(self) -> int:
        """Microseconds of a write and its sync."""
        if self._random.random() < self._faults().slow_sync:
            return self._random.randint(10 * MILLISECOND, 2 * MICROSECONDS)
        return self._random.randint(MILLISECOND // 2, 10 * MILLISECOND)

    # --- between incarnations

    def crash(self) -> None:
        """The power fails and returns."""
        self.syncs_left = None
        self.files.crash(self._random)

    def repair(self) -> None:
        """An operator frees space, and bad sectors are restored."""
        self.files.space_left = self.syncs_left = None
        self.has_failed = False
        if self.rotten is not None:
            self.files.flip_bit(*self.rotten)
            self.rotten = None

    def rot(self, directory: str) -> bool:
        """Flip a bit of a write-ahead log, in a record that the log proves to have been durable. False if there is none."""
        paths = [segment_path(directory, number) for number in segment_numbers(self.files, directory)]
        segments = [(path, records) for path in paths if (records := _valid_records(self.files.open(path)))]
        spans = [(path, record.offset, record.end) for path, records in segments[:-1] for record in records]
        for path, records in segments[-1:]:  # what a later record says was durable
            spans += [(path, record.offset, record.end) for record in records if record.end <= records[-1].synced_to]
        if not spans:
            return False
        path, start, end = self._random.choice(spans)
        # A valid record needs no end mark, so a flip there is harmless.
        self.rotten = (path, self._random.randrange(start * 8, (end - len(wal_format.END)) * 8))
        self.files.flip_bit(*self.rotten)
        self.has_failed = True
        return True


class _FaultyFile:
    """A file whose sync may fail, or be the point of a power cut: what was written is in the page cache only."""

    __slots__ = ("_disk", "_file", "allocate", "close", "lock", "pread", "pwrite", "size", "truncate")

    def __init__(self, file: File, disk: Disk) -> None:
        self._file = file
        self._disk = disk
        self.pwrite = file.pwrite
        self.pread = file.pread
        self.allocate = file.allocate
        self.truncate = file.truncate
        self.size = file.size
        self.close = file.close
        self.lock = file.lock

    def datasync(self) -> None:
        try:
            self._disk.before_sync()
        except StorageFailure:
            self._disk.files.fail_syncs = True  # the file system drops what was written
            try:
                self._file.datasync()
            finally:
                self._disk.files.fail_syncs = False
        self._file.datasync()


def _valid_records(file: File) -> list[wal_format.Record]:
    """The records of a segment up to the first that is torn; none for one that is not begun."""
    data = file.pread(file.size(), 0)
    if data[: len(_MAGIC)] != _MAGIC:
        return []
    length = wal_format.HEADER.unpack_from(data)[2]
    body = data[wal_format.HEADER.size : wal_format.HEADER.size + length]
    try:
        head = wal_format.parse_head(body, lambda _, text: StorageFailure(text))
    except StorageFailure:
        return []
    records: list[wal_format.Record] = []
    offset = 0
    while (record := wal_format.parse_record(data, offset, wal_format.seed_of(head.salt))) is not None:
        records.append(record)
        offset = record.end
    return records


_MAGIC: Final = wal_format.MAGIC.to_bytes(4, "big")
