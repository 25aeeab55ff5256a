"""Runs on the host: receives files over stdin and writes them atomically.

It is sent as text and run by the host's python3, so it may use only the standard library of Python 3.7. Stdin carries one line
of JSON, a list of files (path, size, mode, owner, group), and then exactly their bytes. They go to temporary files in the same
directories with mode 0600, which get their owner and mode; after all are on disk, they are renamed, one after the other. If the
input ends early, the sender is gone: the temporary files are removed and the targets are unchanged.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import signal
import sys
import tempfile
import time
from typing import IO, Any

PIECE = 1 << 20
STALE_SECONDS = 600
SUFFIX = ".partial"


def main(source: IO[bytes]) -> None:
    """Receive files from `source`. Exits with one line on stderr on failure."""
    wanted = json.loads(source.readline())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a lost connection shows as the end of the input, which is handled
    try:
        receive(source, wanted)
    except LookupError as error:
        sys.exit(str(error.args[0]))
    except OSError as error:
        sys.exit(f"{error.strerror or error}: {' and '.join(file['path'] for file in wanted)}")


def receive(source: IO[bytes], wanted: list[dict[str, Any]]) -> None:
    """Raises OSError, LookupError (no such user or group), EOFError as OSError."""
    staged = []  # type: list[tuple[str, str]]
    try:
        for file in wanted:
            staged.append((stage(source, file), file["path"]))
        while staged:
            os.rename(*staged[0])
            del staged[0]
    except BaseException:
        for partial, _ in staged:
            os.unlink(partial)
        raise
    for directory in {os.path.dirname(file["path"]) for file in wanted}:
        sync_directory(directory)


def stage(source: IO[bytes], wanted: dict[str, Any]) -> str:
    """Write a temporary file beside the target, durably, with its owner and mode. Returns its path."""
    path = wanted["path"]
    directory, name = os.path.split(path)
    if os.path.isdir(path) and not os.path.islink(path):
        raise IsADirectoryError(21, "Is a directory")
    owner, group = user_id(wanted["owner"]), group_id(wanted["group"])
    remove_stale(directory, name)
    descriptor, partial = tempfile.mkstemp(prefix="." + name + ".", suffix=SUFFIX, dir=directory)
    try:
        with open(descriptor, "wb") as file:
            copy(source, file, wanted["size"])
            file.flush()
            os.fchown(file.fileno(), owner, group)
            os.fchmod(file.fileno(), wanted["mode"])
            os.fsync(file.fileno())
    except BaseException:
        os.unlink(partial)
        raise
    return partial


def copy(source: IO[bytes], file: IO[bytes], size: int) -> None:
    """Exactly `size` bytes."""
    left = size
    while left:
        piece = source.read(min(PIECE, left))
        if not piece:
            raise OSError(0, f"The input ended {left} bytes early")
        file.write(piece)
        left -= len(piece)


def remove_stale(directory: str, name: str) -> None:
    """Remove temporary files of killed or crashed receivers."""
    for entry in os.listdir(directory):
        if entry.startswith("." + name + ".") and entry.endswith(SUFFIX):
            left_over = os.path.join(directory, entry)
            try:
                if os.lstat(left_over).st_mtime < time.time() - STALE_SECONDS:
                    os.unlink(left_over)
            except OSError:
                pass  # removed by a concurrent receiver


def user_id(name: str) -> int:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise LookupError(f"user {name} does not exist") from None


def group_id(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise LookupError(f"group {name} does not exist") from None


def sync_directory(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
