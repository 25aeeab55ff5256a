"""An unreadable database from a peer is rejected before it replaces the member's state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tercet.errors import StorageFailure
from tercet.proto import rpc_pb2
from tercet.raft.types import Message, Snapshot
from tercet.replica.state_machine import CONF_STATE_KEY, prepare
from tercet.storage.interfaces import Backend, Bucket
from tercet.storage.lmdb_backend import LmdbBackend
from tercet.storage.memory_backend import MemoryBackend
from tests.replica.lone_member import Content, LoneMember, put_entry, snapshot_of


def sent() -> tuple[Message, Content]:
    leader = LoneMember()
    leader.settle()
    leader.follow([put_entry(2, at, b"k") for at in range(4, 9)], commit=8)
    leader.backend.commit_now()
    return snapshot_of(leader, term=2)


@pytest.fixture(params=["memory", "lmdb"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    return MemoryBackend() if request.param == "memory" else LmdbBackend(str(tmp_path / "db"))


def with_record(bucket: Bucket, key: bytes, value: bytes) -> Callable[[Content, Snapshot], tuple[Content, Snapshot]]:
    return lambda content, snapshot: ([one for one in content if one[:2] != (bucket, key)] + [(bucket, key, value)], snapshot)


def with_tree(data: bytes) -> Callable[[Content, Snapshot], tuple[Content, Snapshot]]:
    return lambda content, snapshot: (content, replace(snapshot, data=data))


@pytest.mark.parametrize(
    "damage",
    [
        with_record(Bucket.MEMBERS, b"1", b"{"),
        with_record(Bucket.MEMBERS, b"1", b"[]"),
        with_record(Bucket.MEMBERS_REMOVED, b"no number", b"removed"),
        with_record(Bucket.META, CONF_STATE_KEY, b"[1]"),
        with_record(Bucket.META, b"scheduledCompactRev", b"short"),
        with_record(Bucket.META, b"consistent_index", (7).to_bytes(8, "big")),
        with_record(Bucket.LEASE, bytes(8), b"\xff"),
        with_record(Bucket.ALARM, b"\xff", b""),
        with_record(Bucket.KEY, b"no revision", b""),
        with_record(Bucket.CLUSTER, b"clusterVersion", b"\xff"),
        with_tree(b"{"),
        with_tree(b"[1]"),
        with_tree(b'{"Root":{"Children":{"0":{"Children":{"members":{"Children":{"x":{"Path":"/0/members/x"}}}}}}}}'),
    ],
)
def test_an_unreadable_database_is_rejected(
    backend: Backend, damage: Callable[[Content, Snapshot], tuple[Content, Snapshot]], tmp_path: Path
) -> None:
    message, content = sent()
    assert message.snapshot is not None
    before = sorted(tmp_path.rglob("*"))
    damaged, snapshot = damage(content, message.snapshot)
    with pytest.raises(StorageFailure):
        prepare(backend, damaged, snapshot)
    assert sorted(tmp_path.rglob("*")) == before, "no files are left"
    prepare(backend, content, message.snapshot).staged.discard()
    backend.close()


def test_leases_and_their_keys_come_with_a_received_database() -> None:
    """They are built with it in the thread, and go on in this member's backend."""
    leader = LoneMember()
    leader.lead()
    lessor = leader.replica.lessor
    lessor.grant(7, 100)
    leader.replica.state_machine.store.put(rpc_pb2.PutRequest(key=b"leased", lease=7))
    leader.replica.state_machine.backend.applied(leader.replica.applied_index, leader.raft.term)
    message, content = snapshot_of(leader, term=3)
    assert message.snapshot is not None
    member = LoneMember()
    prepared = prepare(member.backend, content, message.snapshot, lease_seconds_min=2)
    member.replica.state_machine.install(prepared, message.snapshot)
    (lease,) = member.replica.lessor
    assert (lease.id, lease.ttl_seconds, lease.keys().all()) == (7, 100, [b"leased"])
    member.replica.lessor.grant(8, 1)
    assert {key for key, _ in member.backend.scan(Bucket.LEASE)} == {bytes(7) + b"\x07", bytes(7) + b"\x08"}
    assert member.replica.lease_counts.granted == 1
