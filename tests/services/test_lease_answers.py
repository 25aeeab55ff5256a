"""What the lease service reads and writes without protobuf."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.containers import SortedKeys
from tercet.lease import Lease
from tercet.mvcc import Budget
from tercet.proto import rpc_pb2
from tercet.proto.wire import decode_varint
from tercet.services.lease_answers import LeaseKeys, encoded_lease_id
from tests.support.fakes import uses_fakes

EDGES = [1, 0x7F, 0x80, 0x3FFF, 0x4000, (1 << 56) - 1, 1 << 56, (1 << 62) + 5, (1 << 63) - 1]


@given(st.integers(1, (1 << 63) - 1) | st.sampled_from(EDGES))
def test_a_lease_id_is_read_as_protobuf_reads_it(lease_id: int) -> None:
    request = rpc_pb2.LeaseKeepAliveRequest(ID=lease_id).SerializeToString()
    encoded = encoded_lease_id(request)
    assert decode_varint(encoded) == lease_id
    response = rpc_pb2.LeaseKeepAliveResponse.FromString(b"\x10" + encoded)
    assert lease_id == response.ID


@given(st.binary(max_size=12) | st.builds(b"\x08".__add__, st.binary(max_size=11)))
def test_of_any_other_bytes_nothing_is_read(request: bytes) -> None:
    encoded = encoded_lease_id(request)
    if encoded:
        parsed = rpc_pb2.LeaseKeepAliveRequest.FromString(request)
        assert parsed.ID == decode_varint(encoded) > 0
        assert parsed.SerializeToString() == request


def test_zero_negative_and_padded_ids_are_left_to_protobuf() -> None:
    negative = rpc_pb2.LeaseKeepAliveRequest(ID=-1).SerializeToString()
    for request in (b"", b"\x08", b"\x08\x00", b"\x08\x81\x00", b"\x08\x01\x08\x02", negative):
        assert encoded_lease_id(request) == b""


def lease_of(count: int) -> Lease:
    lease = Lease(7, 60)
    for number in range(count):
        lease.attach(b"k%06d" % number)
    return lease


def keys_in(answer: LeaseKeys) -> list[bytes]:
    return list(rpc_pb2.LeaseTimeToLiveResponse.FromString(b"".join(answer.parts)).keys)


@pytest.mark.parametrize("count", [1, 255, 256, 257, 5_000])
def test_all_keys_of_a_lease_are_shown_once(count: int) -> None:
    answer = LeaseKeys(b"", lease_of(count))
    slices = 1
    while answer.step(Budget(1)):
        slices += 1
    assert keys_in(answer) == [b"k%06d" % number for number in range(count)]
    assert slices >= count // 256


def test_keys_that_come_and_go_between_two_slices_change_no_other() -> None:
    lease = lease_of(2_000)
    answer = LeaseKeys(b"", lease)
    assert answer.step(Budget(1))
    lease.detach([b"k000010", b"k001000"])
    lease.attach(b"k001500x")
    while answer.step(Budget(1)):
        pass
    gone = {b"k001000"}
    assert keys_in(answer) == sorted({b"k%06d" % number for number in range(2_000)} - gone | {b"k001500x"})


@uses_fakes
def test_no_request_copies_all_keys_of_a_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SortedKeys, "all", None)
    answer = LeaseKeys(b"", lease_of(5_000))
    assert answer.step(Budget(1))
    assert len(keys_in(answer)) <= 512
