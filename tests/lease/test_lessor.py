from __future__ import annotations

import gc
import sys

import pytest

from tercet.errors import LEASE_EXISTS, LEASE_NOT_FOUND, TOO_LARGE_LEASE_TTL, InvariantViolation, RequestError, StorageFailure
from tercet.lease import TTL_SECONDS_MAX, Lease, Lessor
from tercet.proto import rpc_pb2, stored_pb2
from tercet.storage.interfaces import Bucket
from tests.mvcc.dict_backend import DictBackend
from tests.mvcc.member import Member


@pytest.fixture
def lessor() -> Lessor:
    return Lessor(DictBackend(), ttl_seconds_min=2)


def stored(lessor: Lessor) -> list[tuple[bytes, stored_pb2.Lease]]:
    return [(key, stored_pb2.Lease.FromString(value)) for key, value in lessor._backend.scan(Bucket.LEASE)]


def test_l1_l2_grants_are_stored_as_etcd_stores_them(lessor: Lessor) -> None:
    assert lessor.grant(7, 100).ttl_seconds == 100
    for lease, ttl, granted in [(1, 1, 2), (2, 0, 2), (-1, -5, 2), (4, TTL_SECONDS_MAX, TTL_SECONDS_MAX)]:
        assert lessor.grant(lease, ttl).ttl_seconds == granted
    assert stored(lessor)[2] == (b"\0\0\0\0\0\0\0\4", stored_pb2.Lease(ID=4, TTL=TTL_SECONDS_MAX))
    assert stored(lessor)[4] == (b"\xff" * 8, stored_pb2.Lease(ID=-1, TTL=2))


def test_a_grant_reports_the_first_error_in_etcds_order(lessor: Lessor) -> None:
    lessor.grant(7, 100)
    for lease, ttl, error in [(7, TTL_SECONDS_MAX + 1, TOO_LARGE_LEASE_TTL), (7, 5, LEASE_EXISTS), (0, 5, LEASE_NOT_FOUND)]:
        with pytest.raises(RequestError) as caught:
            lessor.grant(lease, ttl)
        assert caught.value is error
    with pytest.raises(RequestError) as caught:
        lessor.revoke(8)
    assert caught.value is LEASE_NOT_FOUND


def test_l7_l9_a_revoke_deletes_the_keys_still_attached() -> None:
    member = Member()
    for lease in (7, 8):
        member.call(rpc_pb2.LeaseGrantRequest(ID=lease, TTL=10))
    for key, leases in {b"stays": (7, 8), b"goes": (7,), b"free": (7, 0), b"back": (7, 8, 7)}.items():
        for lease in leases:
            member.call(rpc_pb2.PutRequest(key=key, lease=lease))
    assert member.lessor.get(7).keys().all() == [b"back", b"goes"]  # type: ignore[union-attr]
    member.call(rpc_pb2.LeaseRevokeRequest(ID=7))
    answer = member.call(rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0"))
    assert [kv.key for kv in answer.kvs] == [b"free", b"stays"]
    assert (len(member.lessor), [key for key, _ in stored(member.lessor)]) == (1, [b"\0\0\0\0\0\0\0\x08"])
    assert member.lessor.grant(7, 10).keys().all() == []


def test_l13_leases_and_their_keys_survive_a_restart() -> None:
    member = Member()
    for lease in (7, -3):
        member.call(rpc_pb2.LeaseGrantRequest(ID=lease, TTL=300 - lease))
    member.call(rpc_pb2.PutRequest(key=b"a", lease=7))
    member.call(rpc_pb2.PutRequest(key=b"b", lease=7))
    member.call(rpc_pb2.PutRequest(key=b"b", lease=-3))
    member.call(rpc_pb2.PutRequest(key=b"c", lease=7))
    member.call(rpc_pb2.PutRequest(key=b"c"))
    member.call(rpc_pb2.PutRequest(key=b"d", lease=7))
    member.call(rpc_pb2.DeleteRangeRequest(key=b"d"))
    member.lessor.checkpoint(7, 100)
    again = Member(member.backend.reopened())
    described = {lease.id: (lease.ttl_seconds, lease.remaining_seconds, lease.keys().all()) for lease in again.lessor}
    assert described == {7: (293, 100, [b"a"]), -3: (303, 0, [b"b"])}
    assert dict(again.lessor.leased.items()) == {b"a": 7, b"b": -3}


def test_l11_a_checkpoint_is_stored_and_cleared(lessor: Lessor) -> None:
    lessor.grant(7, 1000)
    lessor.checkpoint(7, 400)
    assert stored(lessor)[0][1] == stored_pb2.Lease(ID=7, TTL=1000, RemainingTTL=400)
    lessor.checkpoint(7, 0)
    assert stored(lessor)[0][1] == stored_pb2.Lease(ID=7, TTL=1000)
    lessor.checkpoint(99, 5)  # a lease revoked before the checkpoint
    assert len(lessor) == 1


def test_a_listener_is_notified_of_every_change(lessor: Lessor) -> None:
    heard: list[str] = []

    class Clock:
        def granted(self, lease: Lease) -> None:
            heard.append(f"granted {lease.id}")

        def checkpointed(self, lease: Lease) -> None:
            heard.append(f"checkpointed {lease.id} {lease.remaining_seconds}")

        def revoked(self, lease: Lease) -> None:
            heard.append(f"revoked {lease.id}")

    lessor.listen(Clock())
    lessor.grant(7, 10)
    lessor.checkpoint(7, 5)
    lessor.revoke(7)
    assert heard == ["granted 7", "checkpointed 7 5", "revoked 7"]


def test_attaching_a_key_to_an_unknown_lease_has_no_effect(lessor: Lessor) -> None:
    lessor.attach(b"k", 99)
    lessor.detach([b"k"])
    assert dict(lessor.leased.items()) == {}


def test_revoking_a_lease_with_keys_violates_an_invariant(lessor: Lessor) -> None:
    lessor.grant(7, 10)
    lessor.attach(b"k", 7)
    with pytest.raises(InvariantViolation, match="still holds keys"):
        lessor.revoke(7)


@pytest.mark.parametrize("value", [b"\xff", stored_pb2.Lease(ID=8, TTL=5).SerializeToString(), b""])
def test_the_error_names_the_damaged_lease(value: bytes) -> None:
    backend = DictBackend()
    backend.put(Bucket.LEASE, b"\0\0\0\0\0\0\0\7", value)
    with pytest.raises(StorageFailure, match="0000000000000007"):
        Lessor(backend, ttl_seconds_min=2)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="dictionaries of bytes are tracked from Python 3.14 on")
def test_a_lease_with_keys_is_one_object_to_the_garbage_collector() -> None:
    lessor = Lessor(DictBackend(), ttl_seconds_min=1)
    gc.collect()
    before = len(gc.get_objects())
    for lease_id in range(1, 1001):
        lessor.grant(lease_id, 60)
        lessor.attach(b"%d" % lease_id, lease_id)
    assert len(gc.get_objects()) - before < 1100


def test_a_lease_of_many_keys_loses_and_gains_them_like_one_of_a_few() -> None:
    lessor = Lessor(DictBackend(), ttl_seconds_min=1)
    lease = lessor.grant(1, 60)
    keys = [b"%05d" % number for number in range(3000)]
    for key in reversed(keys):
        lessor.attach(key, 1)
    assert (lease.key_count, lease.keys().all()) == (3000, keys)
    lessor.detach(keys[:10] + keys[20:2990])
    assert lessor.keys_of(1).all() == keys[10:20] + keys[2990:]
    lessor.detach(keys)
    lessor.revoke(1)
    assert len(lessor.leased) == 0
