"""How much of what a client sends is parsed at a time: large pieces of content, small ones of everything else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tercet.rpc.frame_walk import HEADER_BYTES, PREFACE_BYTES, FrameWalk
from tests.rpc import raw
from tests.rpc.raw import frame

BYTES_MAX = 1000
OTHERS_MAX = 50

FRAMES = st.lists(st.tuples(st.sampled_from([raw.DATA, raw.HEADERS, raw.SETTINGS]), st.integers(0, 3000)), max_size=30)


def kinds(frames: list[tuple[int, int]]) -> tuple[bytes, bytes]:
    """The bytes on the wire, and for each whether it is of a frame without content: 1 or 0."""
    wire, others = b"x" * PREFACE_BYTES, b"\0" * PREFACE_BYTES
    for kind, size in frames:
        wire += frame(kind, 0, 1, bytes(size))
        others += (b"\0" if kind == raw.DATA else b"\1") * (HEADER_BYTES + size)
    return wire, others


@given(FRAMES, st.lists(st.integers(1, 4000), min_size=1, max_size=50), st.booleans())
def test_pieces_hold_little_but_content(frames: list[tuple[int, int]], reads: list[int], is_view: bool) -> None:
    wire, others = kinds(frames)
    walk, at = FrameWalk(), 0
    while at < len(wire):
        size = reads[at % len(reads)]
        received = wire[at : at + size]
        start = 0
        while start < len(received):
            data: bytes | memoryview = memoryview(received) if is_view else received
            end = walk.next_piece(data, start, BYTES_MAX, OTHERS_MAX)
            assert start < end <= min(len(received), start + BYTES_MAX)
            piece = others[at + start : at + end]
            assert piece.count(1) < OTHERS_MAX + HEADER_BYTES
            if end < len(received) and end - start < BYTES_MAX:
                assert piece.count(1) > OTHERS_MAX - HEADER_BYTES, "a piece ends early without need"
            start = end
        at += len(received)


def test_content_of_any_size_is_parsed_in_large_pieces() -> None:
    wire, _ = kinds([(raw.HEADERS, 20), *[(raw.DATA, 16 << 10)] * 60])
    walk, pieces, at = FrameWalk(), 0, 0
    while at < len(wire):
        at = walk.next_piece(wire, at, 16 << 10, 2 << 10)
        pieces += 1
    assert pieces == -(-len(wire) // (16 << 10))
