"""A file system in memory, for members that keep nothing on disk.

Files outlive the handles on them, so a member that was killed starts again from its log as it would from a disk. Space that
`allocate` reserves costs nothing until it is written. Changes of names are durable at once; written bytes after `datasync`.

Faults on demand: `space_left` bounds the growth of all files, `is_full` fails each write, `fail_syncs` each sync, `flip_bit`
damages a file, and `lose_unsynced` takes back what was written since the last sync, as a power failure does. sim/filesystem.py
models torn and reordered writes as well.
"""

from __future__ import annotations

import posixpath

from tercet.errors import StorageFailure


class _Inode:
    """A file of at least `reserved` bytes. `undo`: (offset, bytes before, size before) of each write since the last sync."""

    __slots__ = ("content", "is_locked", "reserved", "undo")

    def __init__(self) -> None:
        self.content = bytearray()
        self.reserved = 0
        self.is_locked = False
        self.undo: list[tuple[int, bytes, int]] = []

    @property
    def size(self) -> int:
        return max(len(self.content), self.reserved)


class MemoryFile:
    """See `interfaces.File`."""

    __slots__ = ("_crashes", "_files", "_has_lock", "_inode", "path")

    def __init__(self, files: MemoryFileSystem, path: str, inode: _Inode) -> None:
        self.path = path
        self._files = files
        self._crashes = files.crashes
        self._inode = inode
        self._has_lock = False

    def pwrite(self, data: bytes, offset: int) -> None:
        inode, end = self._inode, offset + len(data)
        content = inode.content
        action = f"write {len(data)} bytes at offset {offset} of {self.path}"
        if self._crashes != self._files.crashes:
            raise StorageFailure(f"{action}: it was opened before the crash")
        if self._files.is_full:
            raise StorageFailure(f"{action}: no space left on device")
        self._files.take(end - inode.size, action)
        inode.undo.append((offset, bytes(content[offset:end]), len(content)))
        if len(content) < offset:
            content.extend(bytes(offset - len(content)))
        content[offset:end] = data

    def pread(self, count: int, offset: int) -> bytes:
        inode = self._inode
        count = min(count, max(0, inode.size - offset))
        data = bytes(inode.content[offset : offset + count])
        return data if len(data) == count else data + bytes(count - len(data))

    def datasync(self) -> None:
        self._files.sync(f"fdatasync {self.path}")
        self._inode.undo.clear()

    def allocate(self, size: int) -> None:
        inode = self._inode
        self._files.take(size - inode.size, f"reserve {size} bytes for {self.path}")
        inode.reserved = max(inode.reserved, size)

    def truncate(self, size: int) -> None:
        inode = self._inode
        self._files.take(size - inode.size, f"truncate to {size} bytes {self.path}")
        del inode.content[size:]
        inode.reserved = size

    def size(self) -> int:
        return self._inode.size

    def lock(self) -> None:
        if self._inode.is_locked:
            raise StorageFailure(f"{self.path} is locked by another process")
        self._inode.is_locked = self._has_lock = True

    def close(self) -> None:
        if self._has_lock and self._crashes == self._files.crashes:
            self._inode.is_locked = self._has_lock = False


class MemoryFileSystem:
    """See `interfaces.FileSystem`. space_left: bytes by which files may grow; None: no bound."""

    def __init__(self) -> None:
        self.space_left: int | None = None
        self.fail_syncs = False
        self.is_full = False
        self.crashes = 0
        self._inodes: dict[str, _Inode] = {}
        self._directories = {"/", "."}

    def open(self, path: str, *, create: bool = False) -> MemoryFile:
        path = posixpath.normpath(path)
        inode = self._inodes.get(path)
        if inode is None:
            if not create or posixpath.dirname(path) not in self._directories:
                raise StorageFailure(f"open {path}: no such file or directory")
            inode = self._inodes[path] = _Inode()
        return MemoryFile(self, path, inode)

    def exists(self, path: str) -> bool:
        path = posixpath.normpath(path)
        return path in self._inodes or path in self._directories

    def list(self, directory: str) -> list[str]:
        directory = posixpath.normpath(directory)
        return sorted(posixpath.basename(path) for path in self._inodes if posixpath.dirname(path) == directory)

    def make_directory(self, path: str) -> None:
        self._directories.add(posixpath.normpath(path))

    def rename(self, old: str, new: str) -> None:
        inode = self._inodes.pop(posixpath.normpath(old), None)
        if inode is None:
            raise StorageFailure(f"rename {old} to {new}: no such file or directory")
        self._inodes[posixpath.normpath(new)] = inode

    def remove(self, path: str) -> None:
        inode = self._inodes.pop(posixpath.normpath(path), None)
        if inode is None:
            raise StorageFailure(f"remove {path}: no such file or directory")
        self.take(-inode.size, f"remove {path}")

    def sync_directory(self, path: str) -> None:
        self.sync(f"fsync directory {path}")

    # --- faults

    def lose_unsynced(self) -> None:
        """The power fails: take back what was written since the last sync. Handles from before cannot write any more."""
        self.crashes += 1
        for inode in self._inodes.values():
            inode.is_locked = False
            for offset, before, size in reversed(inode.undo):
                inode.content[offset : offset + len(before)] = before
                del inode.content[size:]
            inode.undo.clear()

    def flip_bit(self, path: str, offset: int) -> None:
        """Damage a file at rest; a second call repairs it. A file that has been removed is left alone."""
        inode = self._inodes.get(posixpath.normpath(path))
        if inode is not None:
            inode.content[offset] ^= 1

    def take(self, count: int, action: str) -> None:
        """Account for growth by `count` bytes; negative: space is returned. Raises StorageFailure if there is no space."""
        if self.space_left is None:
            return
        if count > max(0, self.space_left):
            raise StorageFailure(f"{action}: no space left on device")
        if count:
            self.space_left -= count

    def sync(self, action: str) -> None:
        if self.fail_syncs:
            raise StorageFailure(f"{action}: input/output error")
