"""How is a tar.gz from a stranger read, and how is one written that anybody can write again, byte for byte?

Reading refuses the whole archive for the first entry that could write elsewhere or be something else than it seems: an absolute
path, `..`, a link, a device, a name twice, more bytes than an engine has. Only the files asked for are read.

Writing sorts the files and gives them one owner, one time and one of two modes, so that the same files give the same archive
(with the same zlib).

Nothing here writes to a path named in an archive: `release.py` lets the host's tar do that, in a directory of its own.
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
    """One file of an archive; `path` is relative, with slashes."""

    path: str
    content: bytes
    executable: bool = False


def pack(files: Iterable[File], to: BinaryIO, progress: Callable[[int, int], None] | None = None) -> None:
    """Write a tar.gz of these files, with the directories above them."""
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
    """The files whose names are wanted, after a look at every entry. Raises ConfigError, naming the archive and the entry."""
    try:
        with gzip.open(path) as zipped:
            with tarfile.open(fileobj=zipped, mode="r:") as archive:
                found = _read(path, archive, wanted)
            _read_to_the_end(path, zipped)
            return found
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ConfigError(f"{path}: not a whole tar.gz ({error}): fetch it again") from error


def _read(path: Path, archive: tarfile.TarFile, wanted: Callable[[str], bool]) -> list[File]:
    found: list[File] = []
    seen: set[str] = set()
    unpacked = 0
    for count, entry in enumerate(archive):
        name = entry.name.removeprefix("./")
        unpacked += entry.size
        if reason := _suspicious(entry) or ("it is there twice" if name in seen else None):
            raise ConfigError(f"{path}: refused because of its entry {entry.name!r}: {reason}")
        if unpacked > UNPACKED_BYTES_MAX or count >= ENTRIES_MAX:
            raise ConfigError(f"{path}: refused: it unpacks to more than {UNPACKED_BYTES_MAX >> 20} MiB or {ENTRIES_MAX} files")
        seen.add(name)
        if entry.isfile() and wanted(name):
            content = archive.extractfile(entry)
            if content is not None:
                found.append(File(name, content.read(), bool(entry.mode & 0o100)))
    return found


def _read_to_the_end(path: Path, zipped: gzip.GzipFile) -> None:
    """The checksum is behind everything else, and looked at only there."""
    left = UNPACKED_BYTES_MAX
    while chunk := zipped.read(1 << 20):
        left -= len(chunk)
        if left < 0:
            raise ConfigError(f"{path}: refused: there is no end to it")


def _suspicious(entry: tarfile.TarInfo) -> str | None:
    if entry.name.startswith("/") or "\\" in entry.name:
        return "its path is absolute"
    if ".." in entry.name.split("/"):
        return "its path leaves the directory"
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
