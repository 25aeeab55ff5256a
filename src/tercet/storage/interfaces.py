"""What the rooms above may ask of a disk. Production and the simulator each bring their own.

Three doors: a `FileSystem` (for the write-ahead log and snapshot files), a `LogStore` (append, then be told when it is durable)
and a `Backend` (buckets of sorted keys, committed now and then together with the index of the last applied entry).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from typing import Protocol

from tercet.errors import StorageFailure
from tercet.raft.types import Entry, HardState, Snapshot


class Bucket(Enum):
    """etcd's buckets, byte for byte, so that a snapshot for an etcd member is this store in another file format."""

    KEY = b"key"
    META = b"meta"
    LEASE = b"lease"
    ALARM = b"alarm"
    AUTH = b"auth"
    AUTH_USERS = b"authUsers"
    AUTH_ROLES = b"authRoles"
    MEMBERS = b"members"
    MEMBERS_REMOVED = b"members_removed"
    CLUSTER = b"cluster"

    # Each is one object; Enum's own hash is a Python function and would cost 0.1 us on every put and get.
    __hash__ = object.__hash__


class File(Protocol):
    """An open file. Nothing written is durable before `datasync` returns."""

    def pwrite(self, data: bytes, offset: int) -> None: ...
    def pread(self, count: int, offset: int) -> bytes: ...
    def datasync(self) -> None: ...
    def allocate(self, size: int) -> None: ...
    def truncate(self, size: int) -> None: ...
    def size(self) -> int: ...
    def close(self) -> None: ...


class FileSystem(Protocol):
    """Paths are strings. A created, renamed or removed name is durable only after `sync_directory` of its directory."""

    def open(self, path: str, *, create: bool = False) -> File: ...
    def exists(self, path: str) -> bool: ...
    def list(self, directory: str) -> list[str]: ...
    def make_directory(self, path: str) -> None: ...
    def rename(self, old: str, new: str) -> None: ...
    def remove(self, path: str) -> None: ...
    def sync_directory(self, path: str) -> None: ...


class LogStore(Protocol):
    """The write-ahead log as the replica sees it: append now, be called back once durable, in order of appending."""

    def append(
        self,
        hard_state: HardState | None,
        entries: Sequence[Entry],
        *,
        then: Callable[[], None],
        sync: bool = True,
    ) -> bool:
        """Queue one batch. `then` runs on the caller's thread after the batch, and all before it, is durable.

        True: it is durable already, as this returns; then `then` is not called.

        sync: False where only the commit index moved; it may then ride along with a later batch's fsync.
        """
        ...

    def save_snapshot(self, snapshot: Snapshot, *, then: Callable[[], None]) -> None:
        """Record that the log may start behind `snapshot`; the backend that holds its state is durable already."""
        ...

    def release(self, index: int) -> None:
        """Entries up to `index` are no longer needed: whole segments before it may be removed."""
        ...


class ReadView(Protocol):
    """A point in time of the whole backend; usable from another thread. It pins pages: close it soon."""

    def get(self, bucket: Bucket, key: bytes) -> bytes | None: ...
    def scan(self, bucket: Bucket, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]: ...
    def close(self) -> None: ...


class Staged(Protocol):
    """A content that a backend may adopt. `point`: the index and term that it stands for, given or its own if that is ahead."""

    @property
    def point(self) -> tuple[int, int]: ...
    def view(self) -> ReadView: ...
    def discard(self) -> None:
        """It is not wanted. After an adoption: nothing."""
        ...


class Backend(Protocol):
    """Buckets of sorted keys. Written from one thread only; a write is visible to the next read, durable only after a commit.

    What is put between two calls of `applied` belongs to one entry or batch of entries: a commit holds all of it or none,
    together with the index given, so that replay after a crash applies each entry exactly once.
    """

    def put(self, bucket: Bucket, key: bytes, value: bytes) -> None: ...
    def delete(self, bucket: Bucket, key: bytes) -> None: ...
    def get(self, bucket: Bucket, key: bytes) -> bytes | None: ...
    def get_many(self, bucket: Bucket, keys: Sequence[bytes]) -> list[bytes | None]: ...
    def scan(self, bucket: Bucket, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]: ...

    def applied(self, index: int, term: int) -> None:
        """All entries up to `index` are in the buffer; from here on a commit may be made."""
        ...

    @property
    def applied_index(self) -> int:
        """The index that the newest *durable* commit holds: entries up to it need no replay."""
        ...

    @property
    def applied_term(self) -> int:
        """The term that belongs to `applied_index`."""
        ...

    @property
    def path(self) -> str:
        """Where it is kept, for messages."""
        ...

    def commit(self, then: Callable[[], None] | None = None) -> None:
        """Begin to make durable all that `applied` has closed; `then` runs on the caller's thread when it is."""
        ...

    def commit_now(self) -> None:
        """Commit and wait: at start, at shutdown and in tests."""
        ...

    def view(self, then: Callable[[ReadView], None]) -> None:
        """A point in time that holds all that has been `applied` so far, handed over when it can be opened."""
        ...

    def open_view_seconds(self) -> list[float]:
        """How old each open view is: an old one keeps the file from reusing its pages."""
        ...

    def defragment(self, then: Callable[[], None], *, failed: Callable[[StorageFailure], None] | None = None) -> None:
        """Give unused space back to the disk, in the background; one of `then` and `failed` runs when that is over.

        A failure (no room for the copy) leaves everything as it was. Without `failed` it is logged, and `then` runs.
        """
        ...

    def stage(self, items: Iterable[tuple[Bucket, bytes, bytes]], *, index: int, term: int) -> Staged:
        """Make a whole other content, durable beside this one. May run in any thread, and takes as long as there are items.

        What `items` raises leaves nothing behind. Raises StorageFailure.
        """
        ...

    def install(self, staged: Staged) -> tuple[int, int]:
        """Become what was staged, durably and in one step: a crash leaves the old content or the new one. Nothing put before
        counts. Returns the staged content's point.
        """
        ...

    def size(self) -> int:
        """Bytes of the file."""
        ...

    def size_in_use(self) -> int:
        """Bytes of the pages in use."""
        ...

    def close(self) -> None: ...
