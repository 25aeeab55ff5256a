"""A file system in memory that loses what was not synced, for the simulator and for tests of power cuts.

The model is harsher than any one file system:
- A write is in the page cache until `datasync`. A `crash` keeps or loses each 512-byte sector written since then, independently
  of the others; a lost sector has its last durable content, or zeros. The same holds for a change of the size.
- A change of a name (create, rename, remove) is in the cache until `sync_directory` of its directory. A `crash` keeps or loses
  each such change independently. A lost rename leaves the file under its old name.
- A failed `datasync` drops what it should have written: the sectors read as written until the crash, which loses them (this is
  what Linux does, and why a second fsync proves nothing).

Faults on demand: `space_left`, `fail_syncs`, `flip_bit`, and `calls_left`, after which the power is off: every further call
fails until `crash`, so that a test can interrupt a sequence of calls at each of its steps. All chance comes from the generator
given to `crash`.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from random import Random
from typing import Final

from tercet.errors import StorageFailure

SECTOR: Final = 512


@dataclass(eq=False, slots=True)
class _Inode:
    """A file's content as programs read it, and as a power cut would leave it."""

    content: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    unsynced: set[int] = field(default_factory=set)  # numbers of sectors written since the last sync
    doomed: set[int] = field(default_factory=set)  # of these, written before a failed datasync: lost at the next crash

    def crash(self, random: Random) -> None:
        """Keep or lose every unsynced sector, and a change of the size."""
        if len(self.content) != len(self.durable) and random.random() < 0.5:
            _resize(self.durable, len(self.content))
        for sector in sorted(self.unsynced - self.doomed):
            if random.random() < 0.5:
                start = sector * SECTOR
                kept = self.content[start : min(start + SECTOR, len(self.durable))]
                self.durable[start : start + len(kept)] = kept
        self.content = bytearray(self.durable)
        self.unsynced.clear()
        self.doomed.clear()


@dataclass(frozen=True, slots=True)
class _NameChange:
    """A change of a directory that is not durable yet."""

    added: str | None
    removed: str | None
    inode: _Inode | None  # None: a directory


class SimulatedFile:
    """See `interfaces.File`. A handle does not outlive a crash."""

    __slots__ = ("_crashes", "_disk", "_inode", "path")

    def __init__(self, disk: SimulatedFileSystem, path: str, inode: _Inode) -> None:
        self._disk = disk
        self._inode = inode
        self._crashes = disk.crashes
        self.path = path

    def pwrite(self, data: bytes, offset: int) -> None:
        self._disk.use_power(f"write {self.path}")
        inode = self._current()
        growth = offset + len(data) - len(inode.content)
        if growth > 0:
            if not self._disk.take_space(growth):
                # As on a real disk, what fits is written before the error is known.
                fits = data[: max(0, len(data) - growth + (self._disk.space_left or 0))]
                if fits:
                    self.pwrite(fits, offset)
                raise StorageFailure(f"write {len(data)} bytes at offset {offset} of {self.path}: no space left on device")
            _resize(inode.content, offset + len(data))
        inode.content[offset : offset + len(data)] = data
        if data:
            touched = range(offset // SECTOR, (offset + len(data) - 1) // SECTOR + 1)
            inode.unsynced.update(touched)
            inode.doomed.difference_update(touched)

    def pread(self, count: int, offset: int) -> bytes:
        return bytes(self._current().content[offset : offset + count])

    def datasync(self) -> None:
        self._disk.use_power(f"fdatasync {self.path}")
        inode = self._current()
        self._disk.syncs += 1
        if self._disk.fail_syncs:
            inode.doomed |= inode.unsynced
            raise StorageFailure(f"fdatasync {self.path}: input/output error")
        _resize(inode.durable, len(inode.content))
        for sector in inode.unsynced - inode.doomed:
            start = sector * SECTOR
            inode.durable[start : start + SECTOR] = inode.content[start : start + SECTOR]
        inode.unsynced = set(inode.doomed)

    def allocate(self, size: int) -> None:
        self._disk.use_power(f"reserve {self.path}")
        inode = self._current()
        growth = size - len(inode.content)
        if growth > 0:
            if not self._disk.take_space(growth):
                raise StorageFailure(f"reserve {size} bytes for {self.path}: no space left on device")
            _resize(inode.content, size)

    def truncate(self, size: int) -> None:
        self._disk.use_power(f"truncate {self.path}")
        inode = self._current()
        growth = size - len(inode.content)
        if growth > 0 and not self._disk.take_space(growth):
            raise StorageFailure(f"truncate to {size} bytes {self.path}: no space left on device")
        if growth < 0:
            self._disk.give_space(-growth)
            # Bytes cut off must not show again when the file grows.
            inode.unsynced.update(range(size // SECTOR, (len(inode.content) + SECTOR - 1) // SECTOR))
        _resize(inode.content, size)

    def size(self) -> int:
        return len(self._current().content)

    def lock(self) -> None:
        """Each member has a file system of its own."""
        self._current()

    def close(self) -> None:
        pass

    def _current(self) -> _Inode:
        if self._crashes != self._disk.crashes:
            raise StorageFailure(f"use {self.path}: it was opened before the crash")
        return self._inode


class SimulatedFileSystem:
    """See `interfaces.FileSystem`. Directories are made and listed, but neither renamed nor removed."""

    def __init__(self, *, space_left: int | None = None) -> None:
        self.space_left = space_left  # bytes; None: unlimited
        self.fail_syncs = False
        self.calls_left: int | None = None  # None: the power stays on
        self.syncs = 0
        self.crashes = 0  # number of crashes
        self._names: dict[str, _Inode | None] = {}
        self._durable_names: dict[str, _Inode | None] = {}
        self._changes: list[_NameChange] = []

    def open(self, path: str, *, create: bool = False) -> SimulatedFile:
        path = posixpath.normpath(path)
        if path not in self._names:
            self._require_directory(_parent(path), "open", path)
            if not create:
                raise StorageFailure(f"open {path}: no such file or directory")
            self._change(_NameChange(path, None, _Inode()))
        inode = self._names[path]
        if inode is None:
            raise StorageFailure(f"open {path}: is a directory")
        return SimulatedFile(self, path, inode)

    def exists(self, path: str) -> bool:
        path = posixpath.normpath(path)
        return path in self._names or _is_root(path)

    def make_directory(self, path: str) -> None:
        path = posixpath.normpath(path)
        if path in self._names:
            self._require_directory(path, "make directory", path)
        elif not _is_root(path):
            self._require_directory(_parent(path), "make directory", path)
            self._change(_NameChange(path, None, None))

    def rename(self, old: str, new: str) -> None:
        old, new = posixpath.normpath(old), posixpath.normpath(new)
        inode = self._names.get(old)
        if inode is None:
            raise StorageFailure(f"rename {old} to {new}: no such file")
        self._require_directory(_parent(new), "rename", new)
        self._change(_NameChange(new, old, inode))

    def remove(self, path: str) -> None:
        path = posixpath.normpath(path)
        inode = self._names.get(path)
        if inode is None:
            raise StorageFailure(f"remove {path}: no such file")
        self._change(_NameChange(None, path, inode))
        self.give_space(len(inode.content))

    def sync_directory(self, path: str) -> None:
        path = posixpath.normpath(path)
        self._require_directory(path, "fsync directory", path)
        self.use_power(f"fsync directory {path}")
        self.syncs += 1
        if self.fail_syncs:
            raise StorageFailure(f"fsync directory {path}: input/output error")
        pending = []
        for change in self._changes:
            if path in _directories(change):
                _apply(change, self._durable_names)
            else:
                pending.append(change)
        self._changes = pending

    def crash(self, random: Random) -> None:
        """The power fails and returns: open handles are invalid, and what was not synced is kept or lost by chance."""
        self.crashes += 1
        self.fail_syncs = False
        self.calls_left = None
        for change in self._changes:
            if random.random() < 0.5:
                _apply(change, self._durable_names)
        self._changes.clear()
        self._durable_names = {name: inode for name, inode in self._durable_names.items() if self._reachable(name)}
        self._names = dict(self._durable_names)
        for name in sorted(self._names):
            inode = self._names[name]
            if inode is None:
                continue
            before = len(inode.content)
            inode.crash(random)
            self.give_space(before - len(inode.content))

    def flip_bit(self, path: str, bit: int) -> None:
        """Damage the medium: the bit stays wrong after a crash."""
        inode = self._names[posixpath.normpath(path)]
        assert inode is not None
        for content in (inode.content, inode.durable):
            if bit // 8 < len(content):
                content[bit // 8] ^= 1 << bit % 8

    def use_power(self, action: str) -> None:
        """Count a call that changes or syncs something."""
        if self.calls_left is not None:
            if self.calls_left == 0:
                raise StorageFailure(f"{action}: the power is off")
            self.calls_left -= 1

    def take_space(self, count: int) -> bool:
        if self.space_left is None:
            return True
        if count > self.space_left:
            return False
        self.space_left -= count
        return True

    def give_space(self, count: int) -> None:
        if self.space_left is not None:
            self.space_left += count

    def _change(self, change: _NameChange) -> None:
        self.use_power(f"change {change.added or change.removed}")
        self._changes.append(change)
        _apply(change, self._names)

    def _reachable(self, name: str) -> bool:
        """Whether all directories above `name` are durable."""
        directory = _parent(name)
        if _is_root(directory):
            return True
        is_directory = directory in self._durable_names and self._durable_names[directory] is None
        return is_directory and self._reachable(directory)

    def _require_directory(self, directory: str, action: str, path: str) -> None:
        if not _is_root(directory) and (directory not in self._names or self._names[directory] is not None):
            raise StorageFailure(f"{action} {path}: {directory} is not a directory")

    def list(self, directory: str) -> list[str]:
        directory = posixpath.normpath(directory)
        self._require_directory(directory, "list", directory)
        return sorted(posixpath.basename(name) for name in self._names if _parent(name) == directory)


def _parent(path: str) -> str:
    return posixpath.dirname(path) or "."


def _is_root(path: str) -> bool:
    return path in (".", "/")


def _directories(change: _NameChange) -> set[str]:
    return {_parent(name) for name in (change.added, change.removed) if name is not None}


def _apply(change: _NameChange, names: dict[str, _Inode | None]) -> None:
    if change.removed is not None:
        names.pop(change.removed, None)
    if change.added is not None:
        names[change.added] = change.inode


def _resize(content: bytearray, size: int) -> None:
    if size < len(content):
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))
