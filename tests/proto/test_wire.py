from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.proto import kv_pb2, rpc_pb2
from tercet.proto.wire import decode_varint, encode_varint, paste_field, varint

EDGES = [0, 1, 0x7F, 0x80, 0x3FFF, 0x4000, (1 << 21) - 1, 1 << 21, (1 << 28) - 1, 1 << 28, (1 << 63) - 1]
numbers = st.integers(0, (1 << 63) - 1) | st.sampled_from(EDGES)


@given(numbers)
def test_the_fast_varint_agrees_with_the_plain_one(value: int) -> None:
    assert varint(value) == encode_varint(value)
    assert decode_varint(varint(value)) == value


@pytest.mark.parametrize("value", EDGES)
def test_varints_are_protobufs(value: int) -> None:
    assert kv_pb2.KeyValue.FromString(b"0" + varint(value)).lease == value


def test_a_negative_varint_is_an_int64() -> None:
    assert kv_pb2.KeyValue.FromString(b"0" + varint(-3)).lease == -3


@pytest.mark.parametrize("length", [0, 1, 0x7F, 0x80, 0x4000])
def test_a_pasted_field_parses_as_the_embedded_message(length: int) -> None:
    kv = kv_pb2.KeyValue(key=b"k", value=bytes(length))
    assert rpc_pb2.PutResponse.FromString(paste_field(2, kv.SerializeToString())).prev_kv == kv
