"""Writing a bbolt file: beside its final name, durable, then renamed, so that a crash leaves the old file or the new one."""

from __future__ import annotations

import os
from pathlib import Path

from tercet.bolt import Source, measure
from tercet.cli.ctl.progress import Progress
from tercet.errors import StorageFailure
from tercet.storage.os_filesystem import OsFileSystem, reason

_CHUNK_BYTES = 1 << 20
_MODE = 0o600


def write_bolt(source: Source, path: Path, what: str) -> int:
    """Write the file, with progress at a terminal. Returns its bytes. Raises StorageFailure; then `path` is unchanged."""
    image = measure(source)
    part = path.with_name(path.name + ".tmp")
    progress = Progress(what, image.size)
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _MODE)
        with open(descriptor, "wb") as file:
            for chunk in image.chunks(_CHUNK_BYTES):
                file.write(chunk)
                progress.advance(len(chunk))
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StorageFailure(f"{part}: {reason(error)}") from error
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    finally:
        progress.finish()
    OsFileSystem().sync_directory(str(path.parent))
    return image.size
