"""Reading of untrusted tar.gz archives, and writing of reproducible ones.

Reading rejects the whole archive if an entry has an absolute path or `..`, is a link or device, or is a duplicate, or if the
archive is too large. Only the requested files are read.

Writing sorts the files and uses one owner, one time and two modes, so that the same files give the same archive (with the same
zlib).

Nothing here writes to a path named in an archive: on the host, tar unpacks it into a dedicated directory (`release.py`).
"""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tercet.errors import ConfigError

UNPACKED_BYTES_MAX = 1 << 30
ENTRIES_MAX = 20_000
_COMPRESSION = 6  # 9 takes four times as long for half a percent


@dataclass(frozen=True)
class File:
    """A file of an archive; `path` is relative, with slashes."""

    path: str
    content: bytes
    executable: bool = False


def pack(files: Iterable[File], to: BinaryIO, progress: Callable[[int, int], None] | None = None) -> None:
    """Write a tar.gz of these files and their parent directories."""
    ordered = sorted(files, key=lambda file: file.path)
    total = sum(len(file.content) for file in ordered)
    done = 0
    with (
        gzip.GzipFile(filename="", mode="wb", compresslevel=_COMPRESSION, fileobj=to, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for directory in sorted(_directories(ordered)):
            archive.addfile(_entry(directory, tarfile.DIRTYPE, 0o755, 0))
        for file in ordered:
            mode = 0o755 if file.executable else 0o644
            archive.addfile(_entry(file.path, tarfile.REGTYPE, mode, len(file.content)), io.BytesIO(file.content))
            done += len(file.content)
            if progress is not None:
                progress(done, total)


def unpack(path: Path, wanted: Callable[[str], bool]) -> list[File]:
    """The files accepted by `wanted`, after checking every entry. Raises ConfigError naming archive and entry."""
    try:
        with gzip.open(path) as zipped:
            with tarfile.open(fileobj=zipped, mode="r:") as archive:
                found = _read(path, archive, wanted)
            _verify_checksum(path, zipped)
            return found
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ConfigError(f"{path}: incomplete or damaged tar.gz ({error})") from error


def _read(path: Path, archive: tarfile.TarFile, wanted: Callable[[str], bool]) -> list[File]:
    found: list[File] = []
    seen: set[str] = set()
    unpacked = 0
    for count, entry in enumerate(archive):
        name = entry.name.removeprefix("./")
        unpacked += entry.size
        if reason := _suspicious(entry) or ("it is a duplicate" if name in seen else None):
            raise ConfigError(f"{path}: rejected because of entry {entry.name!r}: {reason}")
        if unpacked > UNPACKED_BYTES_MAX or count >= ENTRIES_MAX:
            raise ConfigError(
                f"{path}: rejected: it unpacks to more than {UNPACKED_BYTES_MAX >> 20} MiB or {ENTRIES_MAX} files"
            )
        seen.add(name)
        if entry.isfile() and wanted(name):
            content = archive.extractfile(entry)
            if content is not None:
                found.append(File(name, content.read(), bool(entry.mode & 0o100)))
    return found


def _verify_checksum(path: Path, zipped: gzip.GzipFile) -> None:
    """gzip verifies the checksum at the end of the file."""
    left = UNPACKED_BYTES_MAX
    while chunk := zipped.read(1 << 20):
        left -= len(chunk)
        if left < 0:
            raise ConfigError(f"{path}: rejected: too much data after the archive")


def _suspicious(entry: tarfile.TarInfo) -> str | None:
    if entry.name.startswith("/") or "\\" in entry.name:
        return "its path is absolute"
    if ".." in entry.name.split("/"):
        return "its path is outside the directory"
    if not (entry.isfile() or entry.isdir()):
        return "it is neither a file nor a directory (a link or a device)"
    return None


def _directories(files: Iterable[File]) -> set[str]:
    return {parent for file in files for parent in map(str, Path(file.path).parents) if parent != "."}


def _entry(name: str, kind: bytes, mode: int, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.size = kind, mode, size
    entry.uname = entry.gname = "root"
    return entry
