"""The chunked transfer coding: whole, split anywhere, and malformed."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.peer.chunked import ChunkDecoder, ChunkError, encode_chunk


def cut(data: bytes, at: list[int]) -> list[bytes]:
    """The data in pieces, split at these positions (modulo its length)."""
    places = sorted({place % (len(data) + 1) for place in at} | {0, len(data)})
    return [data[start:stop] for start, stop in pairwise(places)]


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=5), st.lists(st.integers(0, 2000), max_size=12))
def test_chunks_decode_however_they_are_split(bodies: list[bytes], at: list[int]) -> None:
    coded = b"".join(map(encode_chunk, bodies)) + b"0\r\n\r\n"
    decoder = ChunkDecoder()
    assert b"".join(decoder.feed(piece) for piece in cut(coded, at)) == b"".join(bodies)
    assert decoder.ended
    assert decoder.feed(b"more") == b""


@pytest.mark.parametrize("coded", [b"6;\nabcdef\r\n3\r\nxyz\r\n", b"5\nab\r\nc\r\n", b"2\r\n\r\n\r\n", b"1\r\nx\r\n1\r\ny\r\n"])
def test_whole_chunks_and_single_bytes_decode_alike(coded: bytes) -> None:
    slow = ChunkDecoder()
    assert ChunkDecoder().feed(coded) == b"".join(slow.feed(bytes((byte,))) for byte in coded)


def test_chunk_extensions_and_padding_are_accepted() -> None:
    decoder = ChunkDecoder()
    assert decoder.feed(b"00A;name=value\r\n0123456789\r\n1 \nx\r\n") == b"0123456789x"


@pytest.mark.parametrize(
    "coded",
    [
        b"\r\n",
        b"g\r\n",
        b"-1\r\n",
        b"+1\r\nx\r\n",
        b"1_0\r\n",
        b"3\r\nabcd\r\n",
        b"1\r\nx\n\n",
        b"f" * 17 + b"\r\n",
        b"1" * 128,
        b"1;" + b"x" * 500,
    ],
)
def test_malformed_chunks_are_refused(coded: bytes) -> None:
    with pytest.raises(ChunkError):
        ChunkDecoder().feed(coded)
    with pytest.raises(ChunkError):
        feed_each_byte(coded)


def feed_each_byte(coded: bytes) -> None:
    decoder = ChunkDecoder()
    for byte in coded:
        decoder.feed(bytes((byte,)))
