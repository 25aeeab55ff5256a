"""A log file that is set aside when full, under a name with the time: `etcd.log` becomes `etcd-2026-11-23T06-49-21.502.log`.

Old files are deleted by age and by number, and packed with gzip if asked. Both happen in a thread: packing 100 MB takes longer
than a heartbeat may.

Source: the names are those of lumberjack, which etcd uses, so that either finds the other's files.
"""

from __future__ import annotations

import contextlib
import gzip
import logging
import os
import re
import shutil
import threading
import time
from datetime import UTC, datetime

from tercet.config.log_settings import Rotation

_STAMP = "%Y-%m-%dT%H-%M-%S"
_MEGABYTE = 1 << 20


class RotatingHandler(logging.FileHandler):
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
        with contextlib.suppress(OSError):  # a log that cannot rotate goes on in the file it has
            os.rename(self.baseFilename, self._set_aside_name())
        if self.stream is not None:
            self.stream.close()
        self.stream = self._open()
        self._bytes = os.path.getsize(self.baseFilename)
        if self._sweeper is None or not self._sweeper.is_alive():
            self._sweeper = threading.Thread(target=sweep, args=(self.baseFilename, self._rotation), daemon=True)
            self._sweeper.start()

    def _set_aside_name(self) -> str:
        now = datetime.now() if self._rotation.local_time else datetime.now(UTC)
        base, extension = os.path.splitext(self.baseFilename)
        return f"{base}-{now.strftime(_STAMP)}.{now.microsecond // 1000:03d}{extension}"


def sweep(path: str, rotation: Rotation) -> None:
    """Delete and pack the files that were set aside for `path`. Failures are left for the next time."""
    directory, name = os.path.split(path)
    base, extension = os.path.splitext(name)
    stamp = r"-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}"
    pattern = re.compile(re.escape(base) + stamp + re.escape(extension) + r"(\.gz)?")
    with contextlib.suppress(OSError):
        aside = sorted((file for file in os.listdir(directory) if pattern.fullmatch(file)), reverse=True)
        kept = aside[: rotation.files_max] if rotation.files_max else aside
        oldest = time.time() - rotation.days_max * 86_400 if rotation.days_max else 0.0
        for file in aside:
            full = os.path.join(directory, file)
            if file not in kept or os.path.getmtime(full) < oldest:
                os.remove(full)
            elif rotation.compress and not file.endswith(".gz"):
                _pack(full)


def _pack(path: str) -> None:
    with open(path, "rb") as plain, gzip.open(path + ".gz.tmp", "wb") as packed:
        shutil.copyfileobj(plain, packed)
    os.rename(path + ".gz.tmp", path + ".gz")
    os.remove(path)
