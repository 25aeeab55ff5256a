"""tercetctl snapshot save: etcdutl accepts the file, and an incomplete snapshot leaves none."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tercet.client.services import StreamingMaintenance
from tercet.errors import Code, StatusError
from tercet.proto import rpc_pb2
from tests.cli.conftest import Pair
from tests.cli.etcd_pair import run_ours, run_theirs
from tests.support.etcd import binary
from tests.support.waiting import scaled


def status(path: Path) -> str:
    return subprocess.run(
        [binary("etcdutl"), "snapshot", "status", str(path)], capture_output=True, text=True, check=True, timeout=scaled(30)
    ).stdout


def messages(err: str) -> list[str]:
    return [line.split('"msg":"')[1].split('"')[0] for line in err.splitlines() if '"msg":"' in line]


def test_etcdutl_accepts_the_file(pair: Pair, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert run_ours(pair.ours, ["put", name, "value"]).code == 0
    path = tmp_path / "backup.db"
    done = run_ours(pair.ours, ["snapshot", "save", str(path)])
    assert (done.code, done.out) == (0, f"Snapshot saved at {path}\n".encode())
    assert messages(done.err) == ["created temporary db file", "fetching snapshot", "fetched snapshot", "saved"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
    theirs = tmp_path / "theirs.db"
    assert run_theirs(pair.ours, ["snapshot", "save", str(theirs)]).code == 0
    assert status(path) == status(theirs)


def test_an_older_file_is_replaced(pair: Pair, tmp_path: Path) -> None:
    path = tmp_path / "backup.db"
    path.write_bytes(b"older")
    path.with_name("backup.db.part").write_bytes(b"left behind")
    path.with_name("backup.db.part").chmod(0o644)
    assert run_ours(pair.ours, ["snapshot", "save", str(path)]).code == 0
    assert status(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_pipe_is_not_replaced(pair: Pair, tmp_path: Path) -> None:
    """Nor /dev/full: as root, etcdctl renames its file over it."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    done = run_ours(pair.ours, ["snapshot", "save", str(path)])
    refusal = f"could not save to {path}: is a device, pipe or socket, which a snapshot would replace; name a file"
    assert (done.code, done.err.splitlines()) == (5, [f"Error: {refusal}"])
    assert list(tmp_path.iterdir()) == [path]
    assert path.is_fifo()


@pytest.mark.parametrize(
    ("endpoints", "words"),
    [("", []), ("", ["a", "b"]), ("127.0.0.1:1,127.0.0.1:2", ["backup.db"]), ("", ["/no/such/place/backup.db"])],
    ids=["no file", "two files", "two members", "no directory"],
)
def test_errors_are_etcdctls(pair: Pair, endpoints: str, words: list[str]) -> None:
    ours = run_ours(endpoints or pair.ours, ["snapshot", "save", *words])
    theirs = run_theirs(endpoints or pair.ours, ["snapshot", "save", *words])
    assert (ours.code, ours.error.removesuffix(" <filename>")) == (theirs.code, theirs.error)  # [3.7] names the argument
    assert ours.error


def test_a_name_that_no_file_can_have(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("directory").mkdir()
    for name in ("", ".", "directory", "directory/", str(tmp_path)):
        ours = run_ours(pair.ours, ["snapshot", "save", name])
        assert (ours.code, ours.error) == (5, run_theirs(pair.ours, ["snapshot", "save", name]).error)
        assert sorted(tmp_path.rglob("*.part")) == []


def test_an_unreachable_member(tmp_path: Path) -> None:
    done = run_ours("127.0.0.1:1", ["--dial-timeout=200ms", "--command-timeout=500ms", "snapshot", "save", str(tmp_path / "x")])
    assert done.code == 5
    assert done.error
    assert not list(tmp_path.iterdir())


def answer_with(patch: pytest.MonkeyPatch, *blobs: bytes, error: StatusError | None = None) -> None:
    """A member that sends these parts."""

    async def snapshot(
        self: StreamingMaintenance, request: rpc_pb2.SnapshotRequest, *, timeout: float | None = None
    ) -> AsyncGenerator[rpc_pb2.SnapshotResponse]:
        for blob in blobs:
            yield rpc_pb2.SnapshotResponse(blob=blob, version="3.7")
        if error is not None:
            raise error

    patch.setattr(StreamingMaintenance, "snapshot", snapshot)


STORE = b"x" * 1024


@pytest.mark.parametrize(
    ("blobs", "error", "text"),
    [
        ([STORE], None, "sha256 checksum not found [bytes: 1024]"),
        ([], None, "sha256 checksum not found [bytes: 0]"),
        ([STORE, hashlib.sha256(b"other").digest()], None, "sha256 checksum"),
        ([STORE], StatusError(Code.UNAVAILABLE, "connection lost"), "connection lost"),
    ],
)
def test_a_truncated_or_damaged_stream_keeps_the_old_file(
    blobs: list[bytes], error: StatusError | None, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_with(monkeypatch, *blobs, error=error)
    path = tmp_path / "backup.db"
    path.write_bytes(b"older")
    done = run_ours("127.0.0.1:1", ["snapshot", "save", str(path)])
    assert done.code == 5
    assert text in done.error
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


def test_a_checksum_in_several_parts_and_the_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = STORE + hashlib.sha256(STORE).digest()
    answer_with(monkeypatch, whole[:1000], whole[1000:1030], whole[1030:])
    path = tmp_path / "backup.db"
    done = run_ours("127.0.0.1:1", ["snapshot", "save", str(path)])
    assert (done.code, done.out) == (0, f"Snapshot saved at {path}\nServer version 3.7\n".encode())
    assert path.read_bytes() == whole
