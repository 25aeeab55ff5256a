"""The two stream formats round-trip however the bytes are split, agree with etcd's, and refuse anything else."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.peer.frames import FrameError
from tercet.peer.message_stream import MessageDecoder, MessageEncoder
from tercet.peer.msgapp_stream import MsgAppDecoder, MsgAppEncoder
from tercet.proto import raft_pb2
from tercet.raft.types import Entry, Message, MessageType
from tests.peer.harness import append, entries
from tests.peer.test_chunked import cut

_U64 = st.integers(0, 2**63 - 1)
_CUTS = st.lists(st.integers(0, 5000), max_size=10)

_messages = st.builds(
    Message,
    st.sampled_from([MessageType.APP_RESP, MessageType.VOTE, MessageType.HEARTBEAT, MessageType.READ_INDEX_RESP]),
    to=st.integers(1, 2**64 - 1),
    from_=_U64,
    term=_U64,
    log_term=_U64,
    index=_U64,
    entries=st.lists(st.builds(Entry, _U64, _U64, st.binary(max_size=300), st.integers(0, 2)), max_size=3),
    commit=_U64,
    reject=st.booleans(),
    reject_hint=_U64,
    context=st.binary(max_size=20),
)


@given(st.lists(_messages, max_size=5), _CUTS)
def test_any_message_round_trips_on_the_message_stream(messages: list[Message], at: list[int]) -> None:
    encoder, decoder = MessageEncoder(), MessageDecoder()
    wire = encoder.heartbeat.join([b"", *(encoder.encode(message) for message in messages), b""])
    assert [message for piece in cut(wire, at) for message in decoder.feed(piece)] == messages


@st.composite
def _replication(draw: st.DrawFn) -> list[Message]:
    """What a leader may send on one stream: runs of appends, probes at other indexes, changes of term."""
    messages: list[Message] = []
    term, index = draw(st.integers(1, 5)), draw(st.integers(0, 300))
    for _ in range(draw(st.integers(0, 8))):
        step = draw(st.sampled_from(["append", "append", "commit", "jump", "term", "old"]))
        count = draw(st.integers(0, 4))
        log_term = term
        if step == "jump":
            index = draw(st.integers(0, 300))
        elif step == "term":
            log_term, term = term, term + draw(st.integers(1, 3))
        elif step == "old":
            log_term = draw(st.integers(0, term))
        elif step == "commit":
            count = 0
        data = draw(st.lists(st.binary(max_size=200), min_size=count, max_size=count))
        following = [Entry(term, index + 1 + n, each) for n, each in enumerate(data)]
        messages.append(Message(MessageType.APP, 2, 1, term, log_term, index, following, draw(st.integers(0, index))))
        index += count
    return messages


@given(_replication(), _CUTS)
def test_any_replication_round_trips_on_the_append_stream(messages: list[Message], at: list[int]) -> None:
    encoder, decoder = MsgAppEncoder(), MsgAppDecoder(remote=1, own=2)
    wire = encoder.heartbeat.join([b"", *(encoder.encode(message) for message in messages), b""])
    received = [message for piece in cut(wire, at) for message in decoder.feed(piece)]
    assert received == messages
    assert [entry.wire for message in received for entry in message.entries] == [
        entry.wire for message in messages for entry in message.entries
    ]


def test_steady_replication_uses_short_frames() -> None:
    encoder = MsgAppEncoder()
    first = [encoder.encode(append(0, 2)), encoder.encode(append(2, 1)), encoder.encode(append(3, 0))]
    assert [frame[0] for frame in first] == [2, 1, 1]
    wire = entries(3, 1)[0].wire
    assert first[1] == b"\x01" + struct.pack(">QQ", 1, len(wire)) + wire + struct.pack(">Q", 2)
    assert first[2] == b"\x01" + bytes(8) + struct.pack(">Q", 3)
    assert encoder.encode(append(9, 1))[0] == 2  # a gap: say it in full


def test_etcd_3_5_frames_are_decoded() -> None:
    """3.5.1 encodes zeros, and an empty snapshot in each message."""
    beat = bytes.fromhex("000000000000001e080810001800200028003000400 04a0a12080a0228001000180050005800".replace(" ", ""))
    assert len(beat) == 8 + 0x1E
    assert MessageDecoder().feed(beat) == []
    entry = bytes.fromhex("080010051891022205") + b"hello"
    message = b"".join(
        [
            bytes.fromhex("0803100218012005280530900 23a".replace(" ", "")),
            bytes((len(entry),)),
            entry,
            bytes.fromhex("4090024a0a12080a022800100018005000 5800".replace(" ", "")),
        ]
    )
    decoder = MsgAppDecoder(remote=1, own=2)
    full = b"\x02" + struct.pack(">Q", len(message)) + message
    expected = Message(MessageType.APP, 2, 1, 5, 5, 272, [Entry(5, 273, b"hello")], 272)
    assert decoder.feed(b"\x00" + full + b"\x00") == [expected]
    following = bytes.fromhex("080010051892022205") + b"world"
    short = b"\x01" + struct.pack(">QQ", 1, len(following)) + following + struct.pack(">Q", 273)
    [received] = decoder.feed(short)
    assert received == Message(MessageType.APP, 2, 1, 5, 5, 273, [Entry(5, 274, b"world")], 273)
    assert received.entries[0].wire == following  # as it came, for the log


def test_protobuf_parses_our_frames() -> None:
    frame = MessageEncoder().encode(append(5, 3))
    size = struct.unpack_from(">Q", frame)[0]
    parsed = raft_pb2.Message.FromString(frame[8:])
    assert size == len(frame) - 8
    assert (parsed.type, parsed.to, parsed.logTerm, parsed.index) == (3, 2, 3, 5)
    assert [entry.Index for entry in parsed.entries] == [6, 7, 8]
    assert MessageEncoder.heartbeat == struct.pack(">Q", 2) + raft_pb2.Message(type=raft_pb2.MsgHeartbeat).SerializeToString()


@pytest.mark.parametrize(
    "wire",
    [
        struct.pack(">Q", 1001),
        struct.pack(">Q", 2**64 - 1),
        struct.pack(">Q", 3) + b"\xff\xff\xff",
        struct.pack(">Q", 2) + b"\x3a\x7f",
    ],
)
def test_the_message_stream_refuses(wire: bytes) -> None:
    with pytest.raises(FrameError):
        MessageDecoder(1000).feed(wire)


@pytest.mark.parametrize(
    "wire",
    [
        b"\x03",
        b"\xff",
        b"\x01" + struct.pack(">Q", 2**64 - 1),
        b"\x01" + struct.pack(">Q", 10),  # ten entries would cost more than the limit, whatever their size
        b"\x01" + struct.pack(">QQ", 1, 1001),
        b"\x01" + struct.pack(">QQ", 1, 2**64 - 1),
        b"\x01" + struct.pack(">QQ", 1, 2) + b"\xff\xff" + bytes(8),
        b"\x01" + struct.pack(">QQ", 1, 4) + b"\x10\x01\x18\x05" + bytes(8),  # entry 5 where 1 follows
        b"\x02" + struct.pack(">Q", 1001),
        b"\x02" + struct.pack(">Q", 2) + b"\xff\xff",
        b"\x02" + struct.pack(">Q", 6) + b"\x08\x05\x10\x02\x18\x01",  # a vote
    ],
)
def test_the_append_stream_refuses(wire: bytes) -> None:
    with pytest.raises(FrameError):
        MsgAppDecoder(remote=1, own=2, bytes_max=1000).feed(wire)


@given(st.binary(max_size=60), _CUTS)
def test_random_bytes_are_decoded_or_refused(noise: bytes, at: list[int]) -> None:
    for decoder in (MessageDecoder(1000), MsgAppDecoder(remote=1, own=2, bytes_max=1000)):
        try:
            for piece in cut(noise, at):
                decoder.feed(piece)
        except FrameError:
            pass


def test_a_large_message_in_small_pieces_is_copied_once() -> None:
    """4 MiB in 64-byte pieces: copying all that has arrived for each piece would take minutes."""
    message = append(0, 1, size=4 << 20)
    for encoder, decoder in ((MessageEncoder(), MessageDecoder()), (MsgAppEncoder(), MsgAppDecoder(remote=1, own=2))):
        wire = encoder.encode(message)
        pieces = [wire[start : start + 64] for start in range(0, len(wire), 64)]
        assert [message for piece in pieces for message in decoder.feed(piece)] == [message]
