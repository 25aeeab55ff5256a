"""A member's disk: after a crash it holds what was synced, and of the rest each sector by chance.

The file system is sim/filesystem.py; this module adds power cuts during a sync.
"""

from __future__ import annotations

from random import Random
from typing import Final

from tercet.sim.filesystem import SimulatedFileSystem
from tercet.storage.interfaces import File

SEGMENT_BYTES: Final = 16 * 1024  # small, so that a short run fills several segments


class PowerCut(Exception):
    """The power failed."""


class Disk:
    """A member's file system over all incarnations. `syncs_left`: after so many syncs, the power fails at the next."""

    def __init__(self) -> None:
        self.files = SimulatedFileSystem()
        self.syncs_left: int | None = None

    def open(self, path: str, *, create: bool = False) -> File:
        return _CuttableFile(self.files.open(path, create=create), self)

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

    def before_sync(self) -> None:
        if self.syncs_left is not None:
            if self.syncs_left == 0:
                raise PowerCut
            self.syncs_left -= 1

    def crash(self, random: Random) -> None:
        """The power fails and returns."""
        self.syncs_left = None
        self.files.crash(random)


class _CuttableFile:
    """A file whose sync may be the point of a power cut: what was written since the last sync is in the page cache only."""

    __slots__ = ("_disk", "_file", "allocate", "close", "pread", "pwrite", "size", "truncate")

    def __init__(self, file: File, disk: Disk) -> None:
        self._file = file
        self._disk = disk
        self.pwrite = file.pwrite
        self.pread = file.pread
        self.allocate = file.allocate
        self.truncate = file.truncate
        self.size = file.size
        self.close = file.close

    def datasync(self) -> None:
        self._disk.before_sync()
        self._file.datasync()
