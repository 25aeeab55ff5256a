"""A snapshot of the cluster as a file on the operator's machine, verified before it gets its name.

    saved = await save(members, "kube-node2", Path("backups/demo-20260102T030405Z.db"))

The data goes to FILE.part (mode 0600: it holds all keys and values). Verified are the SHA-256 that the member sends at the end,
and every page of the file (`bolt.check`). Only then is it renamed.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tercet.deploy.members.members import Members
from tercet.errors import ConfigError, StorageFailure
from tercet.proto import rpc_pb2

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Snapshot:
    """A verified snapshot file. hash: CRC-32C of its content, as `etcdutl snapshot status` shows it. items: keys and others."""

    path: Path
    size: int
    revision: int
    items: int
    hash: int


async def save(members: Members, name: str, target: Path, progress: Progress) -> Snapshot:
    """Save a snapshot of member `name`. Raises StatusError, HostError, ConfigError for a damaged file or a full disk."""
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            await _receive(members, name, file, progress)
            file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())
        verified = await asyncio.to_thread(read, part)
        part.rename(target)
    except OSError as error:
        raise ConfigError(f"{error.filename or part}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):  # there only after a failure, which is reported
            part.unlink()
    return Snapshot(target, verified.size, verified.revision, verified.items, verified.hash)


def read(path: Path, *, skip_hash_check: bool = False) -> Snapshot:
    """Verify a snapshot file: its SHA-256 and every page. Raises ConfigError naming the file.

    skip_hash_check: accept a file without SHA-256, which was copied from a data directory.
    """
    from tercet.bolt import check, has_digest, summarize, verify_digest  # with the storage engine: most commands need none

    try:
        size = path.stat().st_size
        if not has_digest(size) and not skip_hash_check:
            raise ConfigError(f"{path}: not a saved snapshot: no SHA-256 at its end (a file of a data directory has none)")
        if not skip_hash_check:
            verify_digest(path)
        faults = check(path).faults
        if faults:
            raise ConfigError(f"{path}: damaged snapshot: {faults[0]}")
        summary = summarize(path)
    except (StorageFailure, OSError) as error:
        raise ConfigError(f"{path}: damaged snapshot: {error}") from error
    return Snapshot(path, size, summary.revision, summary.items, summary.hash)


async def _receive(members: Members, name: str, file: BinaryIO, progress: Progress) -> None:
    from tercet.bolt import DIGEST_BYTES

    digest, tail, size = hashlib.sha256(), b"", 0
    async with contextlib.aclosing(members.member(name).snapshot(rpc_pb2.SnapshotRequest())) as parts:
        async for part in parts:
            file.write(part.blob)
            size += len(part.blob)
            progress(size)
            unsummed = tail + part.blob
            digest.update(unsummed[:-DIGEST_BYTES])
            tail = unsummed[-DIGEST_BYTES:]
    if tail != digest.digest():
        raise ConfigError(f"{file.name}: the snapshot of {name} was cut off or damaged in transit; rerun the command")
