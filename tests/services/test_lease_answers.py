"""What the lease service reads and writes without protobuf."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tercet.proto import rpc_pb2
from tercet.proto.wire import decode_varint
from tercet.services.lease_answers import encoded_lease_id

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
