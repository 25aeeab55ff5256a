"""Durable storage: the write-ahead log, the backend, and the file system below both.

The interfaces are in interfaces.py. Production implements them by `OsFileSystem`, `ThreadedLogStore` and `LmdbBackend`;
embedded members and tests use `memory_backend.MemoryBackend`, and the simulator has implementations of its own (sim/).
"""

from tercet.storage.directory_lock import DirectoryLock
from tercet.storage.interfaces import Backend, Bucket, File, FileSystem, LogStore, ReadView
from tercet.storage.lmdb_backend import LmdbBackend
from tercet.storage.lmdb_view import ViewClosed
from tercet.storage.log_store import ThreadedLogStore
from tercet.storage.os_filesystem import OsFileSystem
from tercet.storage.wal import WAL, Recovered

__all__ = [
    "WAL",
    "Backend",
    "Bucket",
    "DirectoryLock",
    "File",
    "FileSystem",
    "LmdbBackend",
    "LogStore",
    "OsFileSystem",
    "ReadView",
    "Recovered",
    "ThreadedLogStore",
    "ViewClosed",
]
