"""Content-addressed cache of downloads and builds on the operator's machine.

    files/<sha256>     contents
    names/<sha256>     what is known of a name (a URL, a hash of inputs), as text: mostly the digest of its content

Files are written atomically, and verified on every read: a damaged file counts as missing. The newest few are kept.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from tercet.deploy.release.tarball import File, pack
from tercet.disk_sync import naming

KEPT_FILES = 12
KEPT_NAMES = 100
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Cache:
    """The cache directory; created on first write, accessible only by its owner."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._files = directory / "files"
        self._names = directory / "names"
        self.wheels = directory / "wheels"

    def get(self, sha256: str) -> Path | None:
        """The file with this digest, if present and intact."""
        path = self._files / sha256
        try:
            if file_sha256(path) != sha256:
                return None
            os.utime(path)  # most recently used
        except OSError:
            return None
        return path

    def add(self, write: Callable[[BinaryIO], None]) -> tuple[Path, str]:
        """Store what `write` writes; returns path and SHA-256. Nothing is stored if `write` raises."""
        self._files.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=self._files, prefix=".partial-")
        partial = Path(name)
        try:
            with naming(partial), open(descriptor, "wb") as file:
                write(file)
                file.flush()
                os.fsync(descriptor)
            sha256 = file_sha256(partial)
            path = partial.replace(self._files / sha256)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        _drop_old(self._files, KEPT_FILES)
        return path, sha256

    def recall(self, name: str) -> Path | None:
        """The file last remembered under this name, if still present."""
        sha256 = self.recall_text(name)
        return self.get(sha256) if _DIGEST.fullmatch(sha256) else None

    def recall_text(self, name: str) -> str:
        """What was last remembered under this name; "" if nothing."""
        with suppress(OSError, UnicodeDecodeError):
            return self._name(name).read_text()
        return ""

    def remember(self, name: str, text: str) -> None:
        self._names.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._name(name)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        with naming(partial):
            partial.write_text(text)
        partial.replace(path)
        _drop_old(self._names, KEPT_NAMES)

    def _name(self, name: str) -> Path:
        return self._names / hashlib.sha256(name.encode()).hexdigest()


def pack_once(files: Sequence[File], cache: Cache, progress: Callable[[int, int], None]) -> Path:
    """A tar.gz of these files, from the cache if possible."""
    inputs = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.path):
        inputs.update(f"{file.path}\0{file.executable}\0{hashlib.sha256(file.content).hexdigest()}\n".encode())
    name = f"tar.gz of {inputs.hexdigest()}"
    path = cache.recall(name)
    if path is None:
        path, sha256 = cache.add(lambda file: pack(files, file, progress))
        cache.remember(name, sha256)
    return path


def _drop_old(directory: Path, keep: int) -> None:
    """Delete all but the newest files; a concurrent run may do the same."""
    ages: list[tuple[float, Path]] = []
    for path in directory.iterdir():
        with suppress(FileNotFoundError):
            ages.append((path.stat().st_mtime, path))
    for _, path in sorted(ages, reverse=True)[keep:]:
        path.unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file as 64 hexadecimal digits. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
