"""Writing of keys and certificates. A private key is never readable by others, not even between creation and chmod.

A file is created under a temporary name with O_EXCL and its final mode, then renamed, so that readers see the old or the new
file, and a symlink planted under the temporary name is rejected. A key and its certificate are both written in full before the
first rename: a crash between the two renames leaves the new content of the other file beside it (`left_beside`).
"""

from __future__ import annotations

import errno
import glob
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from tercet.disk_sync import sync_directory

KEY_MODE = 0o600
CERTIFICATE_MODE = 0o644


def write(path: Path, content: bytes, *, mode: int) -> None:
    """Write a file atomically. Raises OSError."""
    write_all([(path, content, mode)])


def create(path: Path, content: bytes, *, mode: int) -> None:
    """As `write`, but raises FileExistsError for a file that exists."""
    write_all([(path, content, mode)], replace=_link)


def _link(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        os.rename(temporary, path)
    temporary.unlink(missing_ok=True)


def write_all(
    files: Sequence[tuple[Path, bytes, int]],
    *,
    keep_owners: bool = False,
    replace: Callable[[Path, Path], None] = os.replace,
) -> None:
    """Write (path, content, mode) files. All are on disk before the first is renamed. Raises OSError that names the file.

    keep_owners: a replaced file keeps its owner. Only for files with a trusted owner: an attacker who creates the file first
    would receive the key.
    """
    prepared: list[tuple[Path, Path]] = []
    path, has_renamed = Path(), False
    try:
        for path, content, mode in files:
            _remove_left(path)
            temporary = path.with_name(f".{path.name}.{os.getpid()}")
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
            replace(temporary, path)
            has_renamed = True
        for directory in dict.fromkeys(path.parent for _, path in prepared):
            sync_directory(directory)
    except BaseException as error:
        for temporary, _ in [] if has_renamed else prepared:  # after the first rename they are needed (`left_beside`)
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)  # a write to a full disk names no file, and a creation the temporary one
        raise


def left_beside(path: Path) -> list[Path]:
    """Temporary files with new content for this file, of processes that have ended or of this one."""
    found = path.parent.glob(f".{glob.escape(path.name)}.*")
    return sorted(each for each in found if (suffix := each.suffix[1:]).isdigit() and not _is_other_process(int(suffix)))


def _remove_left(path: Path) -> None:
    for temporary in left_beside(path):
        temporary.unlink(missing_ok=True)


def _is_other_process(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return pid != os.getpid()


def restrict_mode(path: Path) -> None:
    """Set the mode of a key file that is readable by others to 0600."""
    if path.stat().st_mode & 0o077:
        path.chmod(KEY_MODE)
