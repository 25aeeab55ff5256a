"""Where the operator's backups go: a local directory, or a bucket of an object store.

    backups                          a directory
    s3://bucket/prefix               S3 and what speaks its protocol; region, endpoint and keys from AWS_... variables

A file is complete under its name, or not there: a directory gets it by rename, an object store by its own rule. Object stores
are accessed through obstore, of the extra `tercet[backup]`.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tercet.disk_sync import sync_directory
from tercet.errors import ConfigError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_URL = re.compile(r"s3://[^/]+(?:/.*)?")


class BackupStore(Protocol):
    """Files by name. Methods raise ConfigError with the reason."""

    def place(self, name: str) -> str:
        """Path or URL of a file."""
        ...

    def working_parent(self) -> Path | None:
        """Where a file for `put` has to be written; created if missing. None: anywhere. Raises OSError."""
        ...

    async def put(self, local: Path, name: str) -> None:
        """Store a local file, which may be moved."""
        ...

    async def names(self) -> list[str]: ...

    async def delete(self, name: str) -> None: ...


def backup_store(target: str) -> BackupStore:
    """target: a path or an URL. Raises ConfigError for another kind of URL, or if obstore is not installed."""
    if "://" not in target:
        return Directory(Path(target))
    if not _URL.fullmatch(target):
        raise ConfigError(f"{target}: not a directory, nor s3://BUCKET/PREFIX")
    return Bucket(target)


class Directory:
    def __init__(self, path: Path) -> None:
        self.path = path

    def place(self, name: str) -> str:
        return str(self.path / name)

    def working_parent(self) -> Path:
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self.path

    async def put(self, local: Path, name: str) -> None:
        """By rename: `local` must be on the same disk. On return the name is durable, so that older files may be removed."""
        try:
            local.rename(self.path / name)
            sync_directory(self.path)
        except OSError as error:
            raise ConfigError(f"{self.path / name}: {error.strerror}") from error

    async def names(self) -> list[str]:
        return sorted(path.name for path in self.path.iterdir()) if self.path.is_dir() else []

    async def delete(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)


class Bucket:
    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._store = _opened(self.url)

    def working_parent(self) -> None:
        return None

    def place(self, name: str) -> str:
        return f"{self.url}/{name}"

    async def put(self, local: Path, name: str) -> None:
        import obstore

        await self._do(name, lambda: obstore.put(self._store, name, local))
        stored = await self._do(name, lambda: obstore.head(self._store, name))
        if stored["size"] != local.stat().st_size:
            raise ConfigError(f"{self.place(name)}: stored {stored['size']} of {local.stat().st_size} bytes")

    async def names(self) -> list[str]:
        import obstore

        pages = await self._do("", lambda: list(obstore.list(self._store)))
        return sorted(str(one["path"]) for page in pages for one in page if "/" not in one["path"])

    async def delete(self, name: str) -> None:
        import obstore

        await self._do(name, lambda: obstore.delete(self._store, name))

    async def _do(self, name: str, act: Callable[[], Any]) -> Any:
        """In a thread. The store's errors have no common type that is not also an OSError or a plain Exception."""
        from obstore.exceptions import BaseError

        try:
            return await asyncio.to_thread(act)
        except (BaseError, OSError) as error:
            text = str(error).strip().partition("\n")[0]
            raise ConfigError(f"{self.place(name)}: {text}") from error


def _opened(url: str) -> ObjectStore:
    try:
        from obstore.store import from_url
    except ImportError as error:
        raise ConfigError(f"{url}: pip install 'tercet[backup]' first, for access to object stores") from error
    is_plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
    return from_url(url, client_options={"allow_http": is_plain})
