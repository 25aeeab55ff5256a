"""Entry data: the fast encoding equals protobuf's, and decodes to the request."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from tercet.proto import internal_pb2, rpc_pb2
from tercet.replica.requests import FIELD_TAGS, RequestIds, decode_request, encode_request, encode_request_slowly, put_proposal
from tercet.replica.unsupported import UnsupportedRequest

keys = st.binary(min_size=0, max_size=300)


@given(
    key=keys,
    value=keys,
    lease=st.integers(-(2**63), 2**63 - 1),
    member_id=st.integers(1, 2**64 - 1),
    now=st.integers(2**10, 2**40 - 1),
)
def test_pasted_put_equals_protobufs(key: bytes, value: bytes, lease: int, member_id: int, now: int) -> None:
    body = rpc_pb2.PutRequest(key=key, value=value, lease=lease).SerializeToString()
    pasted = encode_request("put", body, RequestIds(member_id, now))
    request_id = RequestIds(member_id, now).next()
    assert pasted == encode_request_slowly("put", body, request_id)


@given(
    put=st.builds(
        rpc_pb2.PutRequest,
        key=st.binary(min_size=1, max_size=300),
        value=st.one_of(st.binary(max_size=300), st.integers(0, 20_000).map(bytes)),
        lease=st.integers(-1, 300),
        prev_kv=st.booleans(),
    ),
    odd=st.sampled_from([b"", b"\x08\x05", b"\x7b\x7c", b"\x78" + b"\xff" * 9 + b"\x7f", b"\x18\x00", b"\x2a\x00"]),
)
def test_a_proposed_put_is_encoded_as_protobuf_does(put: rpc_pb2.PutRequest, odd: bytes) -> None:
    expected = put.SerializeToString()
    came = expected + odd
    read = rpc_pb2.PutRequest.FromString(came)
    proposed = put_proposal(came, read)
    read.DiscardUnknownFields()
    assert proposed == read.SerializeToString()
    if came == expected and not (put.lease or put.prev_kv):
        assert proposed is came


def test_ids_are_consecutive_over_a_change_of_the_cached_bytes() -> None:
    one, two = RequestIds(0xABCD, 1_700_000_000_000), RequestIds(0xABCD, 1_700_000_000_000)
    for _ in range(40_000):  # more than twice the range of the 14 uncached bits
        header = internal_pb2.InternalRaftRequest.FromString(one.next_header()).header
        assert two.next() == header.ID


def test_ids_begin_with_the_member_id() -> None:
    assert RequestIds(0x1234_5678_9ABC_DEF0, 0).next() >> 48 == 0xDEF0


@pytest.mark.parametrize("field", sorted(set(FIELD_TAGS) - {"v2"}))
def test_every_field_is_recognized(field: str) -> None:
    data = encode_request(field, b"", RequestIds(7, 7))
    request = decode_request(data)
    assert request.field == field
    assert request.message.DESCRIPTOR is internal_pb2.InternalRaftRequest.DESCRIPTOR.fields_by_name[field].message_type


def test_the_older_form_is_decoded_as_v2() -> None:
    old = internal_pb2.Request(ID=5, Method="PUT", Path="/0/version", Val="3.5.0")
    request = decode_request(old.SerializeToString())
    assert isinstance(request.message, internal_pb2.Request)
    assert (request.field, request.message.Path, request.message.Val) == ("v2", "/0/version", "3.5.0")


@given(
    id=st.one_of(st.integers(0, 300), st.integers(0, 2**64 - 1)),
    username=st.text(max_size=2),
    auth_revision=st.integers(0, 200),
    position=st.integers(0, 20),
    damage=st.binary(max_size=2),
)
def test_the_identity_of_a_small_put_is_protobufs(
    id: int, username: str, auth_revision: int, position: int, damage: bytes
) -> None:
    header = internal_pb2.RequestHeader(ID=id, username=username, auth_revision=auth_revision).SerializeToString()
    header = header[:position] + damage + header[position + len(damage) :]
    body = rpc_pb2.PutRequest(key=b"k", value=b"v").SerializeToString()
    try:
        expected = internal_pb2.RequestHeader.FromString(header)
    except DecodeError:
        return
    identity = decode_request(b"\x22%c%b\xa2\x06%c%b" % (len(body), body, len(header), header)).identity
    assert (identity.username, identity.revision) == (expected.username, expected.auth_revision)


@pytest.mark.parametrize("field", ["put", "txn", "lease_grant"])
def test_the_identity_is_kept_for_the_apply(field: str) -> None:
    raw = internal_pb2.InternalRaftRequest()
    getattr(raw, field).SetInParent()
    raw.header.ID, raw.header.username, raw.header.auth_revision = 9, "root", 4
    identity = decode_request(raw.SerializeToString()).identity
    assert (identity.username, identity.revision) == ("root", 4)
    raw.header.ClearField("username")
    raw.header.ClearField("auth_revision")
    identity = decode_request(raw.SerializeToString()).identity
    assert (identity.username, identity.revision) == ("", 0)


@pytest.mark.parametrize("data", [b"\xff", b"\xfa\x01\x00", b"\x08\x01"])
def test_data_of_neither_form_is_rejected(data: bytes) -> None:
    with pytest.raises(UnsupportedRequest, match="it holds"):
        decode_request(data)
