"""A damaged database file: set aside before a new one is created in its place, and kept until that one is complete.

If no other member can provide a database after all, the damaged file is what an operator can still salvage data from.
"""

from __future__ import annotations

import os
from typing import Final

from tercet.storage.os_filesystem import storage_failure

DAMAGED_SUFFIX: Final = ".damaged"
_DATABASE_SUFFIX: Final = ".lmdb"


def set_aside(directory: str) -> None:
    """Rename the damaged file. No process may have it open. Raises StorageFailure.

    If one is set aside already, its replacement was interrupted: what was created in its place is empty, and removed.
    """
    try:
        names = sorted(os.listdir(directory), reverse=True)  # the newest generation first
        is_set_aside = any(name.endswith(DAMAGED_SUFFIX) for name in names)
        for name in names:
            if name.endswith(_DATABASE_SUFFIX):
                path = os.path.join(directory, name)
                if is_set_aside:
                    os.unlink(path)
                else:
                    os.rename(path, path + DAMAGED_SUFFIX)
                    is_set_aside = True
    except OSError as error:
        raise storage_failure("set aside the database in", directory, error) from error


def discard_damaged(directory: str) -> None:
    """Remove the file that was set aside: its replacement is complete. Absence is fine. Raises StorageFailure."""
    try:
        for name in os.listdir(directory):
            if name.endswith(DAMAGED_SUFFIX):
                os.unlink(os.path.join(directory, name))
    except OSError as error:
        raise storage_failure("remove the damaged database in", directory, error) from error
