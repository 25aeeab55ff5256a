"""The real etcd reads our files, and we read its files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tercet.bolt import BoltFile, check, measure, summarize, verify_digest
from tercet.proto import kv_pb2, rpc_pb2, stored_pb2
from tercet.storage.interfaces import Bucket
from tests.support.etcd import Etcd, run_tool, running_etcd

from .images import read_all, source_of, with_digest

LARGE_VALUE = b"large" * 40_000
MANY = 3000


def snapshot_status(path: Path) -> dict[str, Any]:
    """`etcdutl snapshot status`."""
    status: dict[str, Any] = json.loads(run_tool("etcdutl", "snapshot", "status", path, "-w", "json"))
    return status


def encode_revision_key(main: int, sub: int = 0, tombstone: bool = False) -> bytes:
    return main.to_bytes(8, "big") + b"_" + sub.to_bytes(8, "big") + (b"t" if tombstone else b"")


def key_value(key: bytes, create: int, mod: int, version: int, value: bytes, lease: int = 0) -> bytes:
    pair = kv_pb2.KeyValue(key=key, create_revision=create, mod_revision=mod, version=version, value=value, lease=lease)
    return pair.SerializeToString()


@pytest.fixture(scope="module")
def content() -> dict[bytes, dict[bytes, bytes]]:
    """A store with history, a tombstone, an overflowing value, a lease, and enough keys for three levels."""
    keys = {encode_revision_key(2): key_value(b"a", 2, 2, 1, b"first")}
    keys[encode_revision_key(3)] = key_value(b"a", 2, 3, 2, b"second")
    keys[encode_revision_key(4)] = key_value(b"large", 4, 4, 1, LARGE_VALUE)
    keys[encode_revision_key(5)] = key_value(b"leased", 5, 5, 1, b"", lease=77)
    keys[encode_revision_key(6, tombstone=True)] = kv_pb2.KeyValue(key=b"a").SerializeToString()
    for n in range(MANY):
        keys[encode_revision_key(7 + n)] = key_value(b"many/%05d" % n, 7 + n, 7 + n, 1, b"value %d " % n * 20)
    content: dict[bytes, dict[bytes, bytes]] = {bucket.value: {} for bucket in Bucket}
    content[b"key"] = keys
    content[b"lease"] = {(77).to_bytes(8, "big"): stored_pb2.Lease(ID=77, TTL=3600).SerializeToString()}
    content[b"meta"] = {b"consistent_index": (9).to_bytes(8, "big"), b"term": (2).to_bytes(8, "big")}
    return content


@pytest.fixture(scope="module")
def snapshot(content: dict[bytes, dict[bytes, bytes]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ours") / "snapshot.db"
    path.write_bytes(with_digest(b"".join(measure(source_of(content)).chunks())))
    return path


def test_etcdutl_reports_the_same_status(snapshot: Path, content: dict[bytes, dict[bytes, bytes]]) -> None:
    summary = summarize(snapshot)
    assert snapshot_status(snapshot) == {
        "hash": summary.hash,
        "revision": summary.revision,
        "totalKey": summary.items,
        "totalSize": summary.size,
    }
    assert summary.revision == 6 + MANY
    assert summary.items == sum(map(len, content.values()))


def test_etcd_restores_our_snapshot_and_continues(snapshot: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    run_tool("etcdutl", "snapshot", "restore", snapshot, "--data-dir", data)
    with running_etcd(tmp_path, data=data, initial_peer_url="http://localhost:2380") as etcd:
        assert etcd.ctl("get", "", "--from-key", "--count-only", "-w", "fields").count(f'"Count" : {MANY + 2}') == 1
        assert etcd.ctl("get", "a") == ""
        assert etcd.ctl("get", "a", "--rev=3", "--print-value-only") == "second\n"
        assert etcd.ctl("get", "large", "--print-value-only").encode() == LARGE_VALUE + b"\n"
        assert etcd.ctl("get", "many/02999", "--print-value-only") == "value 2999 " * 20 + "\n"
        assert "attached keys([leased])" in etcd.ctl("lease", "timetolive", "4d", "--keys")
        for n in range(20):
            etcd.ctl("put", f"many/{n * 100:05}", "changed by etcd")
        etcd.ctl("compact", str(6 + MANY))
        etcd.ctl("defrag")
        again = tmp_path / "again.db"
        etcd.ctl("snapshot", "save", again)
    assert check(again).faults == []
    assert summarize(again).revision == 26 + MANY


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """An etcd with users, roles, a lease, an alarm, deleted keys and a compaction."""
    with running_etcd(tmp_path_factory.mktemp("real")) as etcd:
        for n in range(12):
            etcd.ctl("put", f"key/{n}", "x" * 700)
        etcd.ctl("put", "large", "y" * 20_000)
        etcd.ctl("del", "key/3")
        lease = etcd.ctl("lease", "grant", "3600").split()[1]
        etcd.ctl("put", "leased", "z", f"--lease={lease}")
        etcd.ctl("compact", "5")
        etcd.ctl("role", "add", "reader")
        etcd.ctl("role", "grant-permission", "reader", "read", "key/", "key0")
        etcd.ctl("user", "add", "root", "--new-user-password=secret")
        etcd.ctl("user", "grant-role", "root", "reader")
        yield etcd


def test_we_read_what_etcd_saved(etcd: Etcd, tmp_path: Path) -> None:
    path = tmp_path / "saved.db"
    alarm = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.ACTIVATE, memberID=5, alarm=rpc_pb2.NOSPACE)
    etcd.call("/etcdserverpb.Maintenance/Alarm", alarm.SerializeToString())
    etcd.ctl("snapshot", "save", path)
    etcd.ctl("alarm", "disarm")
    verify_digest(path)
    report = check(path)
    assert report.faults == []
    summary = summarize(path)
    assert snapshot_status(path) == {
        "hash": summary.hash,
        "revision": summary.revision,
        "totalKey": summary.items,
        "totalSize": summary.size,
    }
    buckets = read_all(path)
    assert list(buckets[b"authUsers"]) == [b"root"]
    assert list(buckets[b"authRoles"]) == [b"reader"]
    assert len(buckets[b"lease"]) == 1
    (raised,) = map(rpc_pb2.AlarmMember.FromString, buckets[b"alarm"])
    assert (raised.memberID, raised.alarm) == (5, rpc_pb2.NOSPACE)
    kept = [kv_pb2.KeyValue.FromString(value) for value in buckets[b"key"].values()]
    listed = json.loads(etcd.ctl("get", "", "--from-key", "-w", "json"))
    assert summary.revision == listed["header"]["revision"]
    assert {pair.key for pair in kept} >= {b"leased", b"large", b"key/11"}
    assert next(pair.value for pair in kept if pair.key == b"large") == b"y" * 20_000


def test_a_copy_by_our_reader_and_writer_has_the_same_hash(etcd: Etcd, tmp_path: Path) -> None:
    saved, ours = tmp_path / "saved.db", tmp_path / "ours.db"
    etcd.ctl("snapshot", "save", saved)
    with BoltFile(saved) as file:
        image = measure(lambda: ((bucket.name, file.items_of(bucket)) for bucket in file.roots()))
        ours.write_bytes(with_digest(b"".join(image.chunks())))
    assert snapshot_status(ours)["hash"] == snapshot_status(saved)["hash"]


def test_we_read_the_database_of_a_running_member(etcd: Etcd, tmp_path: Path) -> None:
    """It has free pages and inline buckets; copied while the member is idle."""
    etcd.ctl("defrag")
    for n in range(30):
        etcd.ctl("put", f"more/{n}", "x" * 300)
    etcd.ctl("snapshot", "save", tmp_path / "barrier")  # commits what is pending
    copy = tmp_path / "db"
    copy.write_bytes(etcd.db.read_bytes())
    report = check(copy)
    assert report.faults == []
    assert report.pages_free > 0
    assert report.items[b"key"] == summarize(tmp_path / "barrier").items - sum(
        count for name, count in report.items.items() if name != b"key"
    )
