"""Writing of keys and certificates. A private key is never readable by others, not even between creation and chmod.

A file is created under a temporary name with O_EXCL and its final mode, then renamed, so that readers see the old or the new
file, and a symlink planted under the temporary name is rejected. A key and its certificate are both written in full before the
first rename.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

KEY_MODE = 0o600
CERTIFICATE_MODE = 0o644


def write(path: Path, content: bytes, *, mode: int) -> None:
    """Write a file atomically. Raises OSError."""
    write_all([(path, content, mode)])


def write_all(files: Sequence[tuple[Path, bytes, int]], *, keep_owners: bool = False) -> None:
    """Write (path, content, mode) files. All are on disk before the first is renamed. Raises OSError that names the file.

    keep_owners: a replaced file keeps its owner. Only for files with a trusted owner: an attacker who creates the file first
    would receive the key.
    """
    prepared: list[tuple[Path, Path]] = []
    path = Path()
    try:
        for path, content, mode in files:
            temporary = path.with_name(f".{path.name}.{os.getpid()}")
            temporary.unlink(missing_ok=True)  # what a run that was killed left behind under the same process id
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
            prepared.append((temporary, path))
            with os.fdopen(descriptor, "wb") as file:
                if keep_owners and path.exists():
                    owned = path.stat()
                    os.fchown(descriptor, owned.st_uid, owned.st_gid)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for temporary, path in prepared:
            os.replace(temporary, path)
    except BaseException as error:
        for temporary, _ in prepared:
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)  # a write to a full disk names no file, and a creation the temporary one
        raise


def restrict_mode(path: Path) -> None:
    """Set the mode of a key file that is readable by others to 0600."""
    if path.stat().st_mode & 0o077:
        path.chmod(KEY_MODE)
