"""Temporary directories that do not outlive their process for long, also where it is killed.

A lock on the file `.tercet-owner` in each says that it is in use. The system gives it up with the last process that has the
file open: the owner, or the member that it has started. Whoever makes the next such directory, in the same place, removes those
that nobody locks.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final

if sys.platform != "win32":
    import fcntl

_PREFIX: Final = "tercet-"
_UNFINISHED: Final = "tercet.new-"
_OWNER: Final = ".tercet-owner"


class OwnedDirectory:
    """path: of a new directory, `tercet-KIND-*`, which only this user can enter."""

    def __init__(self, kind: str, parent: Path | None = None) -> None:
        """parent: by default the system's directory for temporary files. Raises OSError."""
        parent = Path(tempfile.gettempdir()) if parent is None else parent
        remove_abandoned(parent)
        made = Path(tempfile.mkdtemp(prefix=f"{_UNFINISHED}{kind}-", dir=parent))
        self.descriptor = os.open(made / _OWNER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        """To be inherited by processes that use the directory."""
        _try_lock(self.descriptor)
        self.path = made.with_name(made.name.replace(_UNFINISHED, _PREFIX, 1))
        os.rename(made, self.path)  # with the lock held: nobody sees it without

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Remove the directory. May be called twice."""
        if self.descriptor >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self.descriptor)
            self.descriptor = -1


def remove_abandoned(parent: Path | None = None) -> None:
    """Remove the directories whose processes have ended without doing it. Those of other users stay."""
    for owner in (Path(tempfile.gettempdir()) if parent is None else parent).glob(f"{_PREFIX}*-*/{_OWNER}"):
        try:
            descriptor = os.open(owner, os.O_RDWR | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0))
        except OSError:
            continue
        try:
            if os.fstat(descriptor).st_uid == _user() and _try_lock(descriptor):
                shutil.rmtree(owner.parent, ignore_errors=True)
        finally:
            os.close(descriptor)


def _user() -> int:
    return os.geteuid() if sys.platform != "win32" else 0


def _try_lock(descriptor: int) -> bool:
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
