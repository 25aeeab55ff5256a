"""Secrets on disk: a private key is never readable by others, not even for the moment between creation and chmod.

A file is made under a temporary name with O_EXCL and its final mode, then renamed over the old one: whoever reads it sees the
old file or the new one, and a link planted under the temporary name is refused instead of followed. What belongs together (a
key and its certificate) is written in full before the first of the files is replaced.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

KEY_MODE = 0o600
CERTIFICATE_MODE = 0o644


def write(path: Path, content: bytes, *, mode: int) -> None:
    """Put `content` at `path`, whole or not at all. Raises OSError."""
    write_all([(path, content, mode)])


def write_all(files: Sequence[tuple[Path, bytes, int]], *, keep_owners: bool = False) -> None:
    """Put each content at its path, with its mode. Each file is replaced whole, none before all are on disk. Raises OSError.

    keep_owners: a file that is replaced stays its owner's. Only for files that are known to be in the right hands: who could
    plant one would be given the key.
    """
    prepared: list[tuple[Path, Path]] = []
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
    except BaseException:
        for temporary, _ in prepared:
            temporary.unlink(missing_ok=True)
        raise


def close_to_others(path: Path) -> None:
    """A key that somebody copied here with a loose mode is closed before it is used again."""
    if path.stat().st_mode & 0o077:
        path.chmod(KEY_MODE)
