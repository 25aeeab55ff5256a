"""What tercetutl reads: damaged logs of etcd, and databases that change until their lock is free."""

from __future__ import annotations

import fcntl
from contextlib import suppress
from pathlib import Path

import pytest

from tercet.cli.utl import stores
from tercet.cli.utl.bolt_output import write_bolt
from tercet.cli.utl.etcd_wal import EtcdLog, read_log, write_log
from tercet.cli.utl.stores import open_store
from tercet.errors import StorageFailure
from tercet.raft.types import ConfState, Entry, HardState, Snapshot
from tercet.storage.interfaces import Bucket

LOG = EtcdLog(
    b"metadata",
    HardState(3, 1, 7),
    Snapshot(5, 2, ConfState(voters=(1, 2))),
    [Entry(3, 6, data=b"x"), Entry(3, 7, data=b"yy")],
)


def test_damage_of_a_log_is_one_error_or_changes_nothing_that_is_committed(tmp_path: Path) -> None:
    """Checksums are those of the data: a flipped bit may also change the kind of a record."""
    write_log(tmp_path, LOG)
    [file] = tmp_path.iterdir()
    intact = file.read_bytes()
    assert read_log(tmp_path).entries == LOG.entries
    damaged = [intact[:end] for end in range(len(intact))]
    for place in range(len(intact)):
        damaged += [intact[:place] + bytes((intact[place] ^ 1 << bit,)) + intact[place + 1 :] for bit in range(8)]
    for content in damaged:
        file.write_bytes(content)
        with suppress(StorageFailure):
            found = read_log(tmp_path)
            assert found.metadata
            last = found.entries[-1].index if found.entries else found.snapshot.index if found.snapshot else 0
            assert found.hard_state.commit <= last


def write(path: Path, value: bytes) -> None:
    write_bolt(lambda: iter([(b"key", [(b"a", value)])]), path, "writing")


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_database_is_read_as_it_is_when_its_lock_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_replaced: bool
) -> None:
    """A member that is about to end still writes, or replaces the file by a defragmentation."""
    path = tmp_path / "db"
    write(path, b"before")
    attempts: list[int] = []

    def flock(descriptor: int, operation: int) -> None:
        attempts.append(operation)
        if len(attempts) == 1:
            write(tmp_path / "new", b"after")
            if is_replaced:
                (tmp_path / "new").rename(path)
                return  # the lock of the file that was replaced is free
            path.write_bytes((tmp_path / "new").read_bytes())
            raise BlockingIOError

    monkeypatch.setattr(stores.fcntl, "flock", flock)
    with open_store(path, 60) as store:
        assert list(store.view.scan(Bucket.KEY)) == [(b"a", b"after")]
    assert attempts == [fcntl.LOCK_EX | fcntl.LOCK_NB] * 2
