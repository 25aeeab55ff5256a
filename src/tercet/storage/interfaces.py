"""The interfaces of storage. Production and the simulator implement them differently.

`FileSystem`: files and directories, for the write-ahead log.
`LogStore`: the write-ahead log; appends are asynchronous, with a callback once they are durable.
`Backend`: buckets of sorted keys, committed in batches together with the index of the last applied entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from typing import Protocol

from tercet.errors import StorageFailure
from tercet.raft.types import Entry, HardState, Snapshot


class Bucket(Enum):
    """etcd's buckets, with etcd's names, so that a snapshot for an etcd member is this store in another file format."""

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

    # Enum's own hash is a Python function that costs 0.1 us on every put and get. Members are singletons, so identity will do.
    __hash__ = object.__hash__


class File(Protocol):
    """An open file. Nothing written is durable before `datasync` returns."""

    def pwrite(self, data: bytes, offset: int) -> None: ...
    def pread(self, count: int, offset: int) -> bytes: ...
    def datasync(self) -> None: ...
    def allocate(self, size: int) -> None: ...
    def truncate(self, size: int) -> None: ...
    def size(self) -> int: ...
    def lock(self) -> None:
        """Lock the file until it is closed. Raises StorageFailure if it is locked already, by any process."""
        ...

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
    """The write-ahead log as the replica sees it: append now, get a callback once durable, in order of appending."""

    def append(
        self,
        hard_state: HardState | None,
        entries: Sequence[Entry],
        *,
        then: Callable[[], None],
        sync: bool = True,
    ) -> bool:
        """Queue one batch. `then` runs on the caller's thread once the batch and all earlier ones are durable.

        sync: False where only the commit index moved; it may wait for the fsync of a later batch, and `then` is not called.
        Returns True if the batch is durable on return, or needs not be; `then` is not called in that case.
        """
        ...

    def save_snapshot(self, snapshot: Snapshot, *, then: Callable[[], None]) -> None:
        """Record that the log may start after `snapshot`; the backend that holds its state must be durable already."""
        ...

    def release(self, index: int) -> None:
        """Entries up to `index` are no longer needed: segments that hold no later entry may be removed."""
        ...


class ReadView(Protocol):
    """A point in time of the whole backend; usable from another thread. It pins pages: close it soon."""

    def get(self, bucket: Bucket, key: bytes) -> bytes | None: ...
    def scan(self, bucket: Bucket, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]: ...
    def close(self) -> None: ...


class Staged(Protocol):
    """A complete content for a backend to install. `point`: its applied index and term, given or read from it, the larger."""

    @property
    def point(self) -> tuple[int, int]: ...
    def view(self) -> ReadView: ...
    def discard(self) -> None:
        """Delete it, unless it has been installed."""
        ...


class Backend(Protocol):
    """Buckets of sorted keys. Written from one thread only; a write is visible to the next read, durable only after a commit.

    What is put between two calls of `applied` belongs to one entry or batch of entries. A commit holds all of it or none,
    together with its index, so that replay after a crash applies each entry exactly once.
    """

    def put(self, bucket: Bucket, key: bytes, value: bytes) -> None: ...
    def delete(self, bucket: Bucket, key: bytes) -> None: ...
    def get(self, bucket: Bucket, key: bytes) -> bytes | None: ...

    def scan(self, bucket: Bucket, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]: ...

    def applied(self, index: int, term: int) -> None:
        """All entries up to `index` are in the buffer, and may be committed."""
        ...

    @property
    def applied_index(self) -> int:
        """The applied index of the newest durable commit: entries up to it need no replay."""
        ...

    @property
    def applied_term(self) -> int:
        """The term of entry `applied_index`."""
        ...

    @property
    def path(self) -> str:
        """The location of the data, for messages."""
        ...

    def commit(self, then: Callable[[], None] | None = None) -> None:
        """Begin to make durable all that `applied` has closed; `then` runs on the caller's thread once it is."""
        ...

    def commit_now(self) -> None:
        """Commit and wait; for start, shutdown and tests."""
        ...

    def view(self, then: Callable[[ReadView], None]) -> None:
        """Pass a view of all that has been `applied` so far to `then`, once it can be opened."""
        ...

    def open_view_seconds(self) -> list[float]:
        """The age of each open view; pages that it can see are not reused."""
        ...

    def defragment(self, then: Callable[[], None], *, failed: Callable[[StorageFailure], None] | None = None) -> None:
        """Return unused space to the file system, in the background. Runs `then`, or `failed` where it fails.

        A failure (no space for the copy) changes nothing. Without `failed` it is logged, and `then` runs.
        """
        ...

    def stage(self, items: Iterable[tuple[Bucket, bytes, bytes]], *, index: int, term: int) -> Staged:
        """Write a complete other content, durable beside the current one. May run in any thread; takes time for each item.

        If `items` raises, the error propagates and nothing remains. Raises StorageFailure.
        """
        ...

    def install(self, staged: Staged) -> tuple[int, int]:
        """Replace the content by the staged one, durably and atomically: a crash leaves the old or the new. Drops all that was
        put before. Returns the staged content's point.
        """
        ...

    def size(self) -> int:
        """Bytes of the file."""
        ...

    def size_in_use(self) -> int:
        """Bytes of the pages in use."""
        ...

    def close(self) -> None: ...
