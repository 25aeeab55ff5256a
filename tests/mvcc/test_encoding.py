from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tercet.mvcc.encoding import (
    encode_deleted,
    encode_key_value,
    encode_key_value_slowly,
    encode_revision_key,
    encode_tombstone,
    key_of,
    paste_kvs,
    revision_bound,
    strip_kv,
    value_in,
)
from tercet.proto import kv_pb2, rpc_pb2
from tercet.proto.wire import encode_varint, varint

EDGES = [0, 1, 0x7F, 0x80, 0x3FFF, 0x4000, (1 << 21) - 1, 1 << 21, (1 << 28) - 1, 1 << 28, (1 << 63) - 1]
revisions = st.integers(1, (1 << 63) - 1) | st.sampled_from(EDGES[1:])
lengths = st.sampled_from([0, 1, 0x7F, 0x80, 0x3FFF, 0x4000])
strings = st.binary(max_size=40) | st.builds(lambda length, byte: bytes([byte]) * length, lengths, st.integers(0, 255))
leases = st.integers(-(1 << 63), (1 << 63) - 1) | st.sampled_from([0, 1, -1])


@given(key=strings, create=revisions, mod=revisions, version=revisions, value=strings, lease=leases)
def test_key_values_are_encoded_as_protobuf_does(
    key: bytes, create: int, mod: int, version: int, value: bytes, lease: int
) -> None:
    parts = (key, encode_varint(create), encode_varint(mod), version, value, lease)
    assert encode_key_value(*parts) == encode_key_value_slowly(*parts)
    assert key_of(encode_key_value(*parts)) == key


@given(st.lists(st.tuples(st.integers(0, 1 << 62), st.integers(0, 1 << 40))))
def test_revision_keys_sort_like_revisions(revisions: list[tuple[int, int]]) -> None:
    assert sorted(encode_revision_key(*revision) for revision in revisions) == [
        encode_revision_key(*each) for each in sorted(revisions)
    ]


def test_revision_keys_have_the_format_of_etcd() -> None:
    assert encode_revision_key(2, 1) == b"\0\0\0\0\0\0\0\2_\0\0\0\0\0\0\0\1"
    assert encode_revision_key(2, 1) < revision_bound(2) <= encode_revision_key(3, 0)


def test_a_tombstone_holds_only_the_key() -> None:
    assert kv_pb2.KeyValue.FromString(encode_tombstone(b"k")) == kv_pb2.KeyValue(key=b"k")
    assert encode_tombstone(b"") == b""
    assert kv_pb2.KeyValue.FromString(encode_deleted(b"k", varint(300))) == kv_pb2.KeyValue(key=b"k", mod_revision=300)


@given(st.lists(strings, max_size=5))
def test_pasted_key_values_parse_as_a_range_response(values: list[bytes]) -> None:
    kvs = [kv_pb2.KeyValue(key=b"k", value=value) for value in values]
    pasted = paste_kvs(2, [kv.SerializeToString() for kv in kvs], b"\x20\x07")
    assert rpc_pb2.RangeResponse.FromString(pasted) == rpc_pb2.RangeResponse(kvs=kvs, count=7)


def test_stripping_removes_the_value_and_optionally_the_lease() -> None:
    pair = kv_pb2.KeyValue(key=b"k", mod_revision=3, value=b"v", lease=5).SerializeToString()
    assert kv_pb2.KeyValue.FromString(strip_kv(pair, lease=True)) == kv_pb2.KeyValue(key=b"k", mod_revision=3, lease=5)
    assert kv_pb2.KeyValue.FromString(strip_kv(pair, lease=False)) == kv_pb2.KeyValue(key=b"k", mod_revision=3)


@given(
    st.binary(max_size=200),
    st.integers(1, 1 << 40),
    st.integers(1, 1 << 40),
    st.integers(1, 1 << 30),
    st.binary(max_size=300),
    st.integers(-2, 2),
)
def test_the_value_is_found_without_parsing(key: bytes, create: int, mod: int, version: int, value: bytes, lease: int) -> None:
    for size in (1, 100):
        kv = encode_key_value(key, varint(create), varint(mod), version, value * size, lease)
        assert value_in(kv, key) == value * size
