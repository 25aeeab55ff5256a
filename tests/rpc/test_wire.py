"""gRPC's encodings round-trip however they are split; malformed input is refused with grpc-go's texts."""

from __future__ import annotations

import base64
import gzip
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.errors import Code, StatusError
from tercet.proto import rpc_pb2
from tercet.rpc import headers, unmarshal, unmarshal_streamed
from tercet.rpc.wire import (
    Compressed,
    MessageReader,
    decode_binary,
    decode_grpc_message,
    decompressor,
    encode_binary,
    encode_grpc_message,
    format_timeout,
    frame,
    gunzip,
    parse_timeout,
)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(places)]


def expanded(message: bytes | Compressed) -> bytes:
    return message.expand() if isinstance(message, Compressed) else message


@given(st.lists(st.binary(max_size=300), max_size=8), st.lists(st.integers(min_value=0)), st.booleans())
def test_messages_round_trip_however_they_are_split(messages: list[bytes], cuts: list[int], compressed: bool) -> None:
    if compressed:
        packed = [gzip.compress(message) for message in messages]
        data = b"".join(b"\1" + len(message).to_bytes(4, "big") + message for message in packed)
    else:
        data = b"".join(map(frame, messages))
    reader = MessageReader(1000, gunzip)
    got = [expanded(message) for piece in pieces(data, cuts) for message in reader.feed_compressed(piece)]
    assert got == messages
    assert reader.buffered_bytes == 0


@given(st.binary(max_size=100), st.lists(st.integers(min_value=0)))
def test_any_bytes_are_parsed_or_refused(data: bytes, cuts: list[int]) -> None:
    """Split or whole, the result is the same messages, then the same error or none."""

    def read(parts: list[bytes]) -> tuple[list[bytes], str]:
        reader, got = MessageReader(50, gunzip), []
        try:
            for part in parts:
                got += map(expanded, reader.feed_compressed(part))
        except StatusError as error:
            return [], str(error)
        return got, ""

    assert read(pieces(data, cuts)) == read([data])


def test_a_length_above_the_limit_is_refused_before_its_bytes_arrive() -> None:
    reader = MessageReader(10)
    assert reader.feed(frame(bytes(10))) == [bytes(10)]
    with pytest.raises(StatusError, match=r"grpc: received message larger than max \(11 vs. 10\)") as error:
        reader.feed(b"\0\0\0\0\x0b")
    assert error.value.code is Code.RESOURCE_EXHAUSTED


def test_malformed_gzip_is_refused() -> None:
    packed = gzip.compress(b"x" * 1000)
    assert gunzip(packed, 1000) == b"x" * 1000
    with pytest.raises(StatusError, match="after decompression larger than max 999"):
        gunzip(packed, 999)
    with pytest.raises(StatusError, match="failed to decompress"):
        gunzip(packed[:-9], 1000)
    with pytest.raises(StatusError, match="failed to decompress"):
        gunzip(b"not gzip", 1000)


@given(st.text())
def test_status_texts_round_trip(text: str) -> None:
    wire = encode_grpc_message(text)
    assert all(0x20 <= byte <= 0x7E for byte in wire)
    assert decode_grpc_message(wire) == text.encode("utf-8", "replace").decode()


@given(st.binary())
def test_any_grpc_message_decodes(wire: bytes) -> None:
    decode_grpc_message(wire).encode("utf-8")


def test_status_texts_are_escaped_as_by_grpc_go() -> None:
    assert encode_grpc_message("a b%c\n€~") == b"a b%25c%0A%E2%82%AC~"
    assert decode_grpc_message(b"50%") == "50%"


@given(st.floats(min_value=1e-6, max_value=1e7))
def test_timeouts_round_trip(seconds: float) -> None:
    assert parse_timeout(format_timeout(seconds)) == pytest.approx(seconds, rel=1e-4, abs=1e-6)


@given(st.integers(min_value=0, max_value=99_999_999), st.sampled_from("HMSmun"))
def test_every_well_formed_timeout_is_parsed(value: int, unit: str) -> None:
    scale = {"H": 3600, "M": 60, "S": 1, "m": 1e-3, "u": 1e-6, "n": 1e-9}[unit]
    assert parse_timeout(f"{value}{unit}".encode()) == pytest.approx(value * scale)


@pytest.mark.parametrize("value", [b"", b"S", b"5", b"5s", b"-5S", b"1.5S", b"123456789S", b"5 S", "５S".encode()])
def test_every_other_timeout_is_refused(value: bytes) -> None:
    with pytest.raises(StatusError, match="malformed grpc-timeout"):
        parse_timeout(value)


@given(st.binary())
def test_binary_metadata_is_decoded_padded_or_not(value: bytes) -> None:
    assert decode_binary(b"x-bin", encode_binary(value)) == value
    assert decode_binary(b"x-bin", base64.b64encode(value)) == value


def test_encodings() -> None:
    assert decompressor(b"identity") is None
    assert decompressor(b"gzip") is gunzip
    with pytest.raises(StatusError, match='Decompressor is not installed for grpc-encoding "zstd"'):
        decompressor(b"zstd")


def test_cached_trailers_are_bounded() -> None:
    headers.status_trailers(5, "x")
    assert headers.status_trailers(5, "x") is headers.status_trailers(5, "x")
    for number in range(2000):
        headers.status_trailers(2, f"unique {number}")
    assert len(headers._trailers) <= 512
    assert headers.status_trailers(5, "x") == ((b"grpc-status", b"5"), (b"grpc-message", b"x"))


def test_a_request_that_does_not_parse_is_refused() -> None:
    parse = rpc_pb2.AuthUserGetRequest.FromString
    assert unmarshal(parse, b"\x0a\x01x").name == "x"
    for message, reason in (
        (b"\xff", "proto: cannot parse invalid wire-format data"),
        (b"\x0a\x01\xff", "string field contains invalid UTF-8"),
    ):
        for refuse, action in (
            (unmarshal, "error unmarshalling request"),
            (unmarshal_streamed, "failed to unmarshal the received message"),
        ):
            with pytest.raises(StatusError) as error:
                refuse(parse, message)
            assert (error.value.code, error.value.message) == (Code.INTERNAL, f"grpc: {action}: {reason}")
