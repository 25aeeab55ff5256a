"""The job of the backup timer, run as on a host: with stand-ins of the tools, a real etcd, and a real S3 server (moto)."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tercet.deploy.on_host import age_writer, backup_job, bucket, libcrypto
from tercet.deploy.on_host.bucket import Bucket, BucketError
from tercet.deploy.plan import backup_program, backup_unit
from tercet.errors import ConfigError
from tercet.pki.age import check_recipient, decrypt, is_encrypted, new_key
from tests.deploy.clusters import cluster_of
from tests.support.etcd import binary, running_etcd
from tests.support.waiting import scaled

SECRET = "wJalrXUtnFEMI/K7MDENG"
TOOL = """#!/bin/sh
echo "$@" >>{log}
case "$*" in
  *"snapshot save"*) for file; do :; done; echo "$@" >"$file";;
  *"snapshot status"*) echo '{{"revision": 7}}';;
  *"snapshot restore"*) [ -z "$UNRESTORABLE" ] || {{ echo unrestorable >&2; exit 7; }}; mkdir "${{4#*=}}";;
  *unix:*hashkv*) echo '[{{"HashKV": {{"hash": 5, "compact_revision": 2}}}}]';;
  *hashkv*) echo "[{{\\"HashKV\\": {{\\"hash\\": ${{LIVE_HASH:-5}}, \\"compact_revision\\": 2}}}}]";;
  *) exec sleep 30;;
esac
"""


class Host:
    """Runs the packed program with one stand-in for all programs of the engine."""

    def __init__(self, directory: Path) -> None:
        self.backups, self.log = directory / "backups", directory / "log"
        self.program, self.tool = directory / "backup.pyz", directory / "tool"
        self.backups.mkdir()
        self.program.write_bytes(backup_program.program())
        self.tool.write_text(TOOL.format(log=self.log))
        self.tool.chmod(0o755)

    def run(self, *more: str, keep: int = 3, **variables: str) -> subprocess.CompletedProcess[str]:
        words = [f"--{name}={self.tool}" for name in ("tool", "offline-tool", "member")]
        words += ["--name=node1", f"--directory={self.backups}", "--endpoint=https://10.0.0.1:2379", f"--keep={keep}"]
        return subprocess.run(
            [sys.executable, "-I", str(self.program), *words, "--cacert=ca.pem", "--cert=server.pem", *more],
            capture_output=True,
            text=True,
            env={**os.environ, **variables},
            timeout=scaled(60),
            check=False,
        )

    @property
    def names(self) -> list[str]:
        return sorted(path.name for path in self.backups.iterdir())


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_clock_that_went_back_does_not_remove_the_new_snapshot(host: Host) -> None:
    for year in (2090, 2091, 2092):
        (host.backups / f"node1-{year}0101T000000Z.db").write_text("old")
    done = host.run(keep=2)
    assert done.returncode == 0, done.stderr
    assert len(host.names) == 2
    assert [name for name in host.names if "node1-209" in name] == ["node1-20920101T000000Z.db"]


def test_backups_use_the_member_certificate_and_keep_the_newest(host: Host) -> None:
    for day in range(1, 6):
        (host.backups / f"node1-2020010{day}T000000Z.db").write_text("old")
    (host.backups / "node1-20200106T000000Z.db.new").write_text("an aborted one")
    (host.backups / "node1-b-20200101T000000Z.db").write_text("another's")
    done = host.run()
    assert done.returncode == 0, done.stderr
    [taken] = [name for name in host.names if not name.startswith(("node1-2020", "node1-b"))]
    assert re.fullmatch(r"node1-\d{8}T\d{6}Z\.db", taken)
    assert set(host.names) == {"node1-20200104T000000Z.db", "node1-20200105T000000Z.db", taken, "node1-b-20200101T000000Z.db"}
    assert "--endpoints=https://10.0.0.1:2379 --cacert=ca.pem --cert=server.pem snapshot save" in host.log.read_text()
    assert (host.backups / taken).stat().st_mode & 0o777 == 0o600
    assert "restored, hash 5 at revision 7 as on the member" in done.stdout


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"UNRESTORABLE": "1"}, "tool: unrestorable"),
        ({"LIVE_HASH": "6"}, "the restored data differs from that of the member at revision 7: 6, 5"),
    ],
)
def test_a_snapshot_that_is_not_verified_gets_no_name_and_replaces_none(
    host: Host, variables: dict[str, str], reason: str
) -> None:
    (host.backups / "node1-20200101T000000Z.db").write_text("old")
    done = host.run(keep=1, **variables)
    assert (done.returncode, done.stderr) == (1, f"backup failed: {reason}\n")
    assert host.names == ["node1-20200101T000000Z.db"]
    assert host.run(keep=1).returncode == 0
    assert len(host.names) == 1


def test_only_the_encrypted_file_is_left(host: Host, tmp_path: Path) -> None:
    key = new_key()
    (host.backups / "node1-20200101T000000Z.db").write_text("an earlier one, plain")
    done = host.run(f"--recipient={check_recipient(key.recipient).hex()}", keep=1)
    assert done.returncode == 0, done.stderr
    [name] = host.names
    assert name.endswith(".db.age")
    saved = host.backups / name
    assert is_encrypted(saved)
    assert b"snapshot save" not in saved.read_bytes()
    decrypt(saved, tmp_path / "plain", key)
    assert "snapshot save" in (tmp_path / "plain").read_text()


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 200_000])
def test_the_encryption_of_hosts_is_read_by_that_of_the_operator(tmp_path: Path, size: int) -> None:
    key, plain = new_key(), os.urandom(size)
    (tmp_path / "plain").write_bytes(plain)
    age_writer.encrypt(str(tmp_path / "plain"), str(tmp_path / "sealed"), check_recipient(key.recipient))
    decrypt(tmp_path / "sealed", tmp_path / "copy", key)
    assert (tmp_path / "copy").read_bytes() == plain
    with pytest.raises(ConfigError, match="encrypted for another key"):
        decrypt(tmp_path / "sealed", tmp_path / "stolen", new_key())


def test_a_bad_public_key_is_refused() -> None:
    with pytest.raises(libcrypto.CryptoError):
        libcrypto.Library().exchange(os.urandom(32), bytes(32))  # a point of low order


@pytest.mark.parametrize("module", [age_writer, backup_job, bucket, libcrypto])
def test_the_program_needs_python_3_7_and_its_standard_library(module: object) -> None:
    path = Path(str(getattr(module, "__file__", "")))
    tree = ast.parse(path.read_text(), feature_version=(3, 7))
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    others = {name for name in imported if name.split(".")[0] not in sys.stdlib_module_names}
    assert all(name.startswith("tercet.deploy.on_host.") for name in others), others


def test_a_snapshot_of_a_real_etcd_has_the_hash_of_its_member(host: Host, tmp_path: Path) -> None:
    with running_etcd(tmp_path / "etcd") as etcd:
        for number in range(20):
            etcd.ctl("put", f"key{number % 3}", str(number))
        etcd.ctl("compact", "15")
        tools = [f"--{name}={binary(program)}" for name, program in PROGRAMS.items()]
        done = host.run(*tools, f"--endpoint={etcd.client_url}", "--cacert=", "--cert=")
    assert done.returncode == 0, done.stderr
    assert re.search(r"restored, hash [0-9a-f]+ at revision 21 as on the member", done.stdout), done.stdout
    assert len(host.names) == 1


PROGRAMS = {"tool": "etcdctl", "offline-tool": "etcdutl", "member": "etcd"}


# The bucket.


@pytest.fixture(scope="module")
def settings() -> Iterator[dict[str, str]]:
    pytest.importorskip("flask", reason="no S3 server: pip install 'moto[s3]' flask flask-cors")
    moto = pytest.importorskip("moto.server", reason="no S3 server: pip install 'moto[s3]' flask flask-cors")
    import boto3

    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    address, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1"}
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{address}:{port}",
        aws_access_key_id="test",
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
    )
    client.create_bucket(Bucket="timers")
    yield {**keys, "AWS_ENDPOINT_URL": f"http://{address}:{port}"}
    server.stop()


def test_snapshots_are_stored_in_the_bucket_and_old_ones_removed(host: Host, settings: dict[str, str]) -> None:
    where = Bucket("s3://timers/etcd", settings)
    old = host.backups / "old"
    old.write_bytes(b"old")
    for name in ("node1-20200101T000000Z.db", "node1-20200102T000000Z.db.age", "node2-20200101T000000Z.db"):
        where.put(str(old), name)
    old.unlink()
    done = host.run("--to=s3://timers/etcd", keep=2, **settings)
    assert done.returncode == 0, done.stderr
    [taken] = host.names
    assert where.names() == sorted(["node1-20200102T000000Z.db.age", taken, "node2-20200101T000000Z.db"])
    assert SECRET not in done.stdout + done.stderr + host.log.read_text()


def test_large_files_are_stored_in_parts(settings: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket, "_PART_BYTES", 5 << 20)
    local = tmp_path / "large"
    local.write_bytes(os.urandom(11 << 20))
    where = Bucket("s3://timers", settings)
    where.put(str(local), "large.db")
    assert where.names() == ["large.db"]
    where.delete("large.db")
    assert where.names() == []


def test_a_missing_bucket_is_an_error_without_secrets(host: Host, settings: dict[str, str]) -> None:
    done = host.run("--to=s3://nowhere", "--check", **settings)
    assert done.returncode == 1
    assert "backup failed: s3://nowhere: HTTP 404 NoSuchBucket" in done.stderr
    assert SECRET not in done.stderr


def test_a_bucket_that_does_not_answer_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(bucket.time, "sleep", pauses.append)
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "c"}
    with pytest.raises(BucketError, match=r"s3://b: .*refused"):
        Bucket("s3://b", {**keys, "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}).names()
    assert pauses == [1, 2, 4, 8]


def test_requests_are_signed_as_in_amazons_example() -> None:
    """Amazon S3 API, "Authenticating requests: examples", GET Bucket (list objects)."""
    keys = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_REGION": "us-east-1"}
    signer = bucket.Signer({**keys, "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"})
    now = bucket.time.strptime("20130524T000000Z", "%Y%m%dT%H%M%SZ")
    found = signer.headers("GET", "examplebucket.s3.amazonaws.com", "/", "max-keys=2&prefix=J", b"", now)
    assert found["Authorization"].endswith("Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7")


# What the plan makes of the file.


def test_the_unit_names_the_bucket_and_no_secret(tmp_path: Path) -> None:
    key = new_key()
    lines = ["export AWS_ACCESS_KEY_ID=AKIA", f"AWS_SECRET_ACCESS_KEY='{SECRET}'", "AWS_REGION=eu-1", "X_Y=z"]
    (tmp_path / "aws.env").write_text("\n".join(lines))
    cluster = cluster_of(tmp_path, f"backups: {{recipient: {key.recipient}, to: 's3://bucket/p/', credentials: aws.env}}")
    units = backup_unit.units(cluster, cluster.hosts[0], tool="t", offline_tool="o", member="m")
    service = units["/etc/systemd/system/etcd-backup.service"]
    assert f"--recipient={check_recipient(key.recipient).hex()}" in service
    assert "--to=s3://bucket/p\n" in service
    assert "EnvironmentFile=/etc/etcd/cert/backup.env\n" in service
    assert SECRET not in service
    assert backup_program.credentials(tmp_path / "aws.env") == (
        f"AWS_ACCESS_KEY_ID=AKIA\nAWS_SECRET_ACCESS_KEY={SECRET}\nAWS_REGION=eu-1\n".encode()
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [("AWS_REGION=a\n", "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY missing"), (f"x\n{SECRET}\n", ":1: not NAME=VALUE")],
)
def test_unusable_credentials_are_an_error_without_them(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "aws.env").write_text(text)
    with pytest.raises(ConfigError, match=problem) as caught:
        backup_program.credentials(tmp_path / "aws.env")
    assert SECRET not in str(caught.value)


def test_the_program_has_the_same_bytes_each_time() -> None:
    assert backup_program.program() == backup_program.program()
