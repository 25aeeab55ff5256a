"""Rotation of a log file by size: `etcd.log` is renamed to `etcd-2026-11-23T06-49-21.502.log`.

Old files are deleted by age and number and compressed with gzip, in a thread: compressing 100 MB takes longer than a heartbeat
interval.

Source: lumberjack, which etcd uses. The names are the same, so that each finds the other's files.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
import time
from datetime import UTC, datetime

from tercet.config.log_settings import Rotation

_STAMP = "%Y-%m-%dT%H-%M-%S"
_MEGABYTE = 1 << 20


class RotatingHandler(logging.FileHandler):
    """Raises OSError if the file cannot be opened."""

    def __init__(self, path: str, rotation: Rotation) -> None:
        super().__init__(path, encoding="utf-8")
        self._rotation = rotation
        self._bytes_max = rotation.megabytes_max * _MEGABYTE
        self._bytes = os.path.getsize(self.baseFilename)
        self._sweeper: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        size = len(self.format(record).encode()) + 1
        if self._bytes and self._bytes + size > self._bytes_max:
            self._rotate()
        super().emit(record)
        self._bytes += size

    def _rotate(self) -> None:
        with contextlib.suppress(OSError):  # without permission to rename: go on in the same file
            os.rename(self.baseFilename, self._rotated_name())
        if self.stream is not None:
            self.stream.close()
        self.stream = self._open()
        self._bytes = os.path.getsize(self.baseFilename)
        if self._sweeper is None or not self._sweeper.is_alive():
            self._sweeper = threading.Thread(target=sweep, args=(self.baseFilename, self._rotation), daemon=True)
            self._sweeper.start()

    def _rotated_name(self) -> str:
        now = datetime.now() if self._rotation.local_time else datetime.now(UTC)
        base, extension = os.path.splitext(self.baseFilename)
        return f"{base}-{now.strftime(_STAMP)}.{now.microsecond // 1000:03d}{extension}"


def sweep(path: str, rotation: Rotation) -> None:
    """Delete and compress rotated files of `path`. After an error the next rotation tries again."""
    directory, name = os.path.split(path)
    base, extension = os.path.splitext(name)
    stamp = r"-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}"
    pattern = re.compile(re.escape(base) + stamp + re.escape(extension) + r"(\.gz)?")
    with contextlib.suppress(OSError):
        rotated = sorted((file for file in os.listdir(directory) if pattern.fullmatch(file)), reverse=True)
        kept = rotated[: rotation.files_max] if rotation.files_max else rotated
        oldest = time.time() - rotation.days_max * 86_400 if rotation.days_max else 0.0
        for file in rotated:
            full = os.path.join(directory, file)
            if file not in kept or os.path.getmtime(full) < oldest:
                os.remove(full)
            elif rotation.compress and not file.endswith(".gz"):
                _compress(full)


def _compress(path: str) -> None:
    import gzip  # with what it loads, only for the first rotated file
    import shutil

    with open(path, "rb") as plain, gzip.open(path + ".gz.tmp", "wb") as packed:
        shutil.copyfileobj(plain, packed)
    os.rename(path + ".gz.tmp", path + ".gz")
    os.remove(path)
