"""snapshot save: write one member's store to a file.

The data goes to FILE.part (mode 0600: it holds all keys and values), which is fsynced, verified and renamed. The last 32 bytes
of a snapshot are the SHA-256 of the rest; `etcdutl snapshot restore` checks it at the restore, this command when it saves.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from tercet.cli.ctl.command import Command
from tercet.cli.ctl.errors import CommandError, Exit, bad_arguments
from tercet.cli.ctl.progress import Progress
from tercet.cli.ctl.status_text import status_text
from tercet.client.snapshot_file import require_replaceable
from tercet.errors import Code, StatusError
from tercet.gotext.duration import format_duration
from tercet.gotext.strconv import humanize_bytes
from tercet.proto import rpc_pb2

if TYPE_CHECKING:
    from tercet.cli.ctl.session import Session

_DIGEST_BYTES = hashlib.sha256().digest_size
_STORE_BLOCK_BYTES = 512  # a bbolt file is a multiple of it, a bbolt file with checksum is not


async def _save(session: Session, arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise bad_arguments("snapshot save expects one argument <filename>")
    session.open()
    endpoints = session.endpoints()
    if len(endpoints) != 1:
        text = f"snapshot must be requested to one selected node, not multiple [{' '.join(endpoints)}]"
        raise CommandError(Exit.INTERRUPTED, text)
    target = arguments[0]
    part = target + ".part"
    try:
        require_replaceable(target)
    except OSError as error:
        raise CommandError(Exit.INTERRUPTED, f"could not save to {target}: {_reason(error)}") from error
    try:
        version = await _fetch(session, endpoints[0], target, part)
    except StatusError as error:
        text = "context deadline exceeded" if error.code is Code.DEADLINE_EXCEEDED else status_text(error)
        raise CommandError(Exit.INTERRUPTED, text) from error
    finally:
        with contextlib.suppress(OSError):  # exists only after a failure, which is reported
            os.unlink(part)
    text = f"Snapshot saved at {target}\n" + (f"Server version {version}\n" if version else "")
    session.out.write(os.fsencode(text))
    session.out.flush()


async def _fetch(session: Session, endpoint: str, target: str, part: str) -> str:
    """Write, verify, rename. Returns the server version that the member reports, "" if it does not."""
    began = time.perf_counter_ns()
    with _opened(part) as file:
        session.info("created temporary db file", path=part)
        session.info("fetching snapshot", endpoint=endpoint)
        version, size = await _receive(session, file, part)
        try:
            os.fsync(file.fileno())
        except OSError as error:
            raise _cannot("could not fsync snapshot", part, error) from error
    took = format_duration(time.perf_counter_ns() - began)
    session.info("fetched snapshot", endpoint=endpoint, size=humanize_bytes(size), took=took)
    _rename(part, target)
    session.info("saved", path=target)
    return version


async def _receive(session: Session, file: BinaryIO, path: str) -> tuple[str, int]:
    """Write all parts to the file. Raises CommandError if the checksum at their end does not match."""
    timeout = session.command_timeout if "command-timeout" in session.values.changed else None
    digest, tail, size, version = hashlib.sha256(), b"", 0, ""
    with Progress("bytes received") as progress:
        async with (
            session.client() as client,
            contextlib.aclosing(client.maintenance.snapshot(rpc_pb2.SnapshotRequest(), timeout=timeout)) as parts,
        ):
            async for part in parts:
                try:
                    file.write(part.blob)
                    file.flush()
                except OSError as error:
                    raise _cannot("could not write snapshot", path, error) from error
                progress.advance(len(part.blob))
                size += len(part.blob)
                version = part.version or version
                unsummed = tail + part.blob
                digest.update(unsummed[:-_DIGEST_BYTES])
                tail = unsummed[-_DIGEST_BYTES:]
    if size % _STORE_BLOCK_BYTES != _DIGEST_BYTES:
        raise CommandError(Exit.INTERRUPTED, f"sha256 checksum not found [bytes: {size}]")
    if tail != digest.digest():
        raise CommandError(Exit.INTERRUPTED, "sha256 checksum mismatch: the snapshot was damaged in transit")
    return version, size


@contextlib.contextmanager
def _opened(part: str) -> Iterator[BinaryIO]:
    """A file whose end hides no error: after a failed write, closing it writes the same buffer, and fails too."""
    try:
        file = os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb")
        os.fchmod(file.fileno(), 0o600)  # the file of an interrupted save may have other permissions
    except OSError as error:
        raise _cannot(f"could not open {part}", part, error) from error
    try:
        yield file
    finally:
        with contextlib.suppress(OSError):  # what was to be kept is on the disk already
            file.close()


def _rename(part: str, target: str) -> None:
    try:
        os.rename(part, target)
    except OSError as error:
        reason = "file exists" if os.path.isdir(target) else _reason(error)  # as Go reports a directory
        text = f"could not rename {part} to {target} (rename {part} {target}: {reason})"
        raise CommandError(Exit.INTERRUPTED, text) from error
    try:
        _sync_directory(os.path.dirname(target) or ".")
    except OSError as error:
        raise _cannot("could not fsync the directory of the snapshot", target, error) from error


def _sync_directory(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _cannot(what: str, path: str, error: OSError) -> CommandError:
    reason = _reason(error)
    return CommandError(Exit.INTERRUPTED, f"{what} (open {path}: {reason})" if "open" in what else f"{what} ({reason})")


SNAPSHOT = Command(
    "snapshot",
    "Save a member's database to a file",
    commands=(
        Command(
            "save",
            "Save the database of one member to a file",
            "<filename>",
            run=_save,
            description=(
                "Give exactly one endpoint. There is no timeout unless --command-timeout is given.\n"
                "`etcdutl snapshot status` describes the file, `etcdutl snapshot restore` creates a data directory from it."
            ),
            examples=("tercetctl --endpoints https://10.0.0.1:2379 snapshot save backup.db",),
        ),
    ),
)
