"""Backups: the restore into a scratch member, the stores, and encryption, with a real etcd and a real S3 server (moto)."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tercet.deploy.members.bumped_snapshot import newest_revision
from tercet.deploy.members.rehearsal import rehearse
from tercet.deploy.run.backup_store import backup_store
from tercet.deploy.run.restore_steps import decrypted
from tercet.errors import ConfigError
from tercet.pki.age import encrypt, new_key
from tercet.proto import rpc_pb2
from tests.support.etcd import running_etcd
from tests.support.waiting import wait_until


def test_a_snapshot_of_etcd_has_the_same_hash_after_a_restore_into_a_scratch_member(tmp_path: Path) -> None:
    saved = tmp_path / "saved.db"
    with running_etcd(tmp_path / "etcd") as etcd:
        for number in range(20):
            etcd.ctl("put", f"key{number % 3}", str(number))
        etcd.ctl("del", "key1")
        etcd.ctl("compact", "15")
        etcd.ctl("snapshot", "save", saved)
        newest = newest_revision(saved)
        answer = etcd.call("/etcdserverpb.Maintenance/HashKV", rpc_pb2.HashKVRequest(revision=newest).SerializeToString())
    expected = rpc_pb2.HashKVResponse.FromString(answer)
    found = asyncio.run(rehearse(saved, revision=newest))
    assert (found.hash, found.compact_revision) == (expected.hash, expected.compact_revision)


@pytest.fixture
def short_directory() -> Iterator[Path]:
    """For Unix sockets, whose paths have at most 104 bytes."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        yield Path(directory)


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from tercet.deploy.members import rehearsal

async def kill(process, *_):
    print(process.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

rehearsal._hash = kill
asyncio.run(rehearsal.rehearse(Path(sys.argv[1]), revision=0))
"""


def test_a_killed_command_leaves_no_scratch_member_and_its_data_until_the_next_one(
    tmp_path: Path, short_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = tmp_path / "saved.db"
    work = short_directory
    with running_etcd(tmp_path / "etcd") as etcd:
        etcd.ctl("put", "a", "1")
        etcd.ctl("snapshot", "save", saved)
    environment = {**os.environ, "TMPDIR": str(work)}
    done = subprocess.run([sys.executable, "-c", KILLED, saved], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    member = int(done.stdout)
    wait_until(lambda: not is_running(member), "the scratch member has ended")
    assert list(work.glob("tercet-rehearsal-*/data"))
    monkeypatch.setenv("TMPDIR", str(work))
    monkeypatch.setattr(tempfile, "tempdir", None)
    asyncio.run(rehearse(saved, revision=0))
    assert list(work.iterdir()) == []


def is_running(pid: int) -> bool:
    """Not a zombie, which stays in a container where no init reaps it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


def test_a_snapshot_that_cannot_be_restored_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "damaged.db"
    path.write_bytes(bytes(4096 + 32))
    with pytest.raises(ConfigError, match=r"damaged\.db: cannot be restored: Error: expected sha256"):
        asyncio.run(rehearse(path, revision=0))


def test_an_encrypted_snapshot_needs_its_key(tmp_path: Path) -> None:
    plain, encrypted, key = tmp_path / "plain.db", tmp_path / "saved.db.age", new_key()
    plain.write_bytes(b"content")
    encrypt(plain, encrypted, key.recipient)
    assert decrypted(plain, tmp_path, None) == plain
    with pytest.raises(ConfigError, match="encrypted; name the file of its key with --identity"):
        decrypted(encrypted, tmp_path, None)
    assert decrypted(encrypted, tmp_path, key).read_bytes() == b"content"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    if importlib.util.find_spec("moto") is None or importlib.util.find_spec("flask") is None:
        pytest.skip("no S3 server: pip install 'moto[s3]' flask flask-cors")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    import boto3

    settings = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
    for name, value in (settings | {"AWS_ENDPOINT_URL": endpoint, "AWS_DEFAULT_REGION": "us-east-1"}).items():
        monkeypatch.setenv(name, value)
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket="snapshots")
    return "s3://snapshots/etcd"


def test_a_bucket_stores_lists_and_deletes(bucket: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        store = backup_store(bucket)
        local = tmp_path / "local.db"
        local.write_bytes(b"x" * (6 << 20))  # more than one part
        await store.put(local, "demo-1.db")
        await store.put(local, "demo-2.db")
        assert store.place("demo-1.db") == "s3://snapshots/etcd/demo-1.db"
        assert await store.names() == ["demo-1.db", "demo-2.db"]
        await store.delete("demo-1.db")
        assert await store.names() == ["demo-2.db"]

    asyncio.run(scenario())


def test_a_missing_bucket_is_an_error_that_names_it(bucket: str, tmp_path: Path) -> None:
    local = tmp_path / "local.db"
    local.write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"^s3://nowhere/etcd/demo\.db: "):
        asyncio.run(backup_store("s3://nowhere/etcd").put(local, "demo.db"))


@pytest.mark.parametrize("target", ["ftp://host/directory", "s3://", "https://host/bucket"])
def test_other_urls_are_refused(target: str) -> None:
    with pytest.raises(ConfigError, match="not a directory, nor s3://BUCKET/PREFIX"):
        backup_store(target)
