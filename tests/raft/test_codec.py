"""The codec against protobuf, the fast decoders against their slow twins, and samples written by etcd 3.5.1."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.proto import raft_pb2
from tercet.proto.wire import encode_varint
from tercet.raft import (
    ConfChange,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    Snapshot,
    codec,
)
from tercet.raft.codec import ENTRIES_MAX, SLOW_ENTRIES_MAX, MalformedMessage, decode_message
from tercet.raft.entry_batch import make_entries
from tercet.raft.fast_codec import read_data_after, read_entry_data, read_message
from tercet.raft.types import encode_entry

U64 = st.integers(0, 2**64 - 1)
SMALL = st.one_of(st.integers(0, 300), U64)
DATA = st.one_of(st.binary(max_size=20), st.integers(100, 20_000).map(bytes))
IDS = st.sets(U64, max_size=3).map(lambda ids: tuple(sorted(ids)))
ENTRIES = st.builds(Entry, SMALL, SMALL, DATA, st.sampled_from([int(kind) for kind in EntryType]))
CONFS = st.builds(ConfState, IDS, IDS, IDS, IDS, st.booleans())
SNAPSHOTS = st.builds(Snapshot, st.integers(1, 2**64 - 1), SMALL, CONFS, st.binary(max_size=20))
MESSAGES = st.builds(
    Message,
    st.sampled_from(list(MessageType)),
    to=SMALL,
    from_=SMALL,
    term=SMALL,
    log_term=SMALL,
    index=SMALL,
    entries=st.lists(ENTRIES, max_size=3),
    commit=SMALL,
    snapshot=st.none() | SNAPSHOTS,
    reject=st.booleans(),
    reject_hint=SMALL,
    context=st.binary(max_size=200),
)


@given(MESSAGES)
def test_messages_round_trip(message: Message) -> None:
    data = codec.encode_message(message)
    assert codec.decode_message(data) == message
    raw = raft_pb2.Message.FromString(data)
    assert len(raw.entries) == len(message.entries)
    assert raw.SerializeToString(deterministic=True) == data  # fields in order, each once


@given(MESSAGES)
def test_messages_with_explicit_zeros_decode_to_the_same(message: Message) -> None:
    assert codec.decode_message(spelled_out(message)) == message


@given(MESSAGES)
def test_messages_of_numbers_decode_as_by_protobuf(message: Message) -> None:
    data = codec.encode_message(message)
    quick, slow = read_message(data), codec.decode_message_slowly(data)
    if quick is not None:
        assert quick == slow
        assert [entry.wire for entry in quick.entries] == [entry.wire for entry in slow.entries]
    assert quick is not None or message.entries or message.snapshot is not None


@given(MESSAGES.map(codec.encode_message) | st.binary(max_size=40), st.integers(0, 400), st.binary(max_size=3))
def test_damaged_messages_decode_as_by_protobuf(data: bytes, position: int, damage: bytes) -> None:
    damaged = data[:position] + damage + data[position + len(damage) :]
    quick = read_message(damaged)
    if quick is not None:
        slow = codec.decode_message_slowly(damaged)
        assert quick == slow
        assert [entry.wire for entry in quick.entries] == [entry.wire for entry in slow.entries]


@given(ENTRIES, st.integers(0, 60), st.binary(max_size=3))
def test_damaged_entries_decode_as_by_protobuf(entry: Entry, position: int, damage: bytes) -> None:
    for start in (b"", b"\x08\x00"):
        wire = start + entry.wire
        damaged = wire[:position] + damage + wire[position + len(damage) :]
        data = read_entry_data(damaged, entry.term, entry.index)
        if data is not None:
            assert codec.decode_entry(damaged) == Entry(entry.term, entry.index, data)


PADDING = st.integers(0, 9)


def padded(number: int, padding: int) -> bytes:
    """A varint that is this many bytes longer than necessary."""
    least = bytearray(encode_varint(number))
    if padding:
        least[-1] |= 0x80
        least += b"\x80" * (padding - 1) + b"\0"
    return bytes(least)


@given(SMALL, SMALL, st.binary(max_size=200), PADDING, PADDING, PADDING)
def test_padded_entries_decode_as_by_protobuf(term: int, index: int, data: bytes, first: int, second: int, third: int) -> None:
    wire = b"\x10" + padded(term, first) + b"\x18" + padded(index, second) + b"\x22" + padded(len(data), third) + data
    quick = read_entry_data(wire, term, index)
    if quick is not None:
        assert codec.decode_entry(wire) == Entry(term, index, quick)


@given(ENTRIES, st.integers(0, 60), st.binary(max_size=3))
def test_an_entry_after_its_encoded_position_decodes_as_one_whose_position_is_read(
    entry: Entry, position: int, damage: bytes
) -> None:
    head = b"\x10" + encode_varint(entry.term) + b"\x18" + encode_varint(entry.index)
    for wire in (entry.wire, entry.wire[:position] + damage + entry.wire[position + len(damage) :]):
        expected = read_entry_data(wire, entry.term, entry.index)
        assert read_data_after(wire, head) == (expected if wire.startswith(head) else None)


@given(SMALL, st.binary(max_size=200), PADDING, PADDING)
def test_padded_messages_decode_as_by_protobuf(index: int, context: bytes, first: int, second: int) -> None:
    data = b"\x08\x09\x30" + padded(index, first) + b"\x62" + padded(len(context), second) + context
    quick = read_message(data)
    if quick is not None:
        assert quick == codec.decode_message_slowly(data)


def test_an_index_beyond_64_bits_is_malformed() -> None:
    assert read_entry_data(b"\x10\x05\x18" + b"\x80" * 9 + b"\x02", 5, 2**64) is None


def test_a_message_of_more_entries_than_a_leader_sends_is_malformed() -> None:
    """Each costs microseconds, and a POST of 64 MiB could hold millions."""
    entry = b"\x3a\x00"  # Message.entries, empty
    assert len(decode_message(entry * ENTRIES_MAX).entries) == ENTRIES_MAX
    with pytest.raises(MalformedMessage, match=f"more than {ENTRIES_MAX} entries"):
        decode_message(entry * (ENTRIES_MAX + 20))


def test_a_message_of_more_entries_than_an_etcd_leader_sends_is_malformed() -> None:
    """In the form of etcd up to 3.6, which protobuf decodes."""
    entry = b"\x3a\x02\x08\x00"
    assert len(decode_message(entry * SLOW_ENTRIES_MAX).entries) == SLOW_ENTRIES_MAX
    with pytest.raises(MalformedMessage, match=f"more than {SLOW_ENTRIES_MAX} entries"):
        decode_message(entry * (SLOW_ENTRIES_MAX + 20))


@given(st.lists(ENTRIES, min_size=1, max_size=3))
def test_entries_in_the_usual_form_are_decoded_without_protobuf(entries: list[Entry]) -> None:
    usual = [entry for entry in entries if entry.term and entry.index]
    message = read_message(codec.encode_message(Message(MessageType.APP, entries=usual)))
    assert message is not None
    assert message.entries == usual


@given(ENTRIES)
def test_entries_round_trip(entry: Entry) -> None:
    assert codec.decode_entry(entry.wire) == entry
    assert codec.decode_entry(entry.wire).wire == entry.wire


@given(st.integers(1, 2**40), st.sampled_from([1, 100, 127, 128, 16_000, 2**35]), st.lists(DATA, max_size=300))
def test_fast_encoded_entries_equal_the_slow_ones(term: int, first_index: int, proposals: list[bytes]) -> None:
    made = make_entries(term, first_index, proposals)
    assert [entry.wire for entry in made] == [
        encode_entry(term, index, data) for index, data in enumerate(proposals, first_index)
    ]
    assert [(entry.term, entry.index, entry.data) for entry in made] == [
        (term, index, data) for index, data in enumerate(proposals, first_index)
    ]
    wires = [entry.wire for entry in made]
    assert codec.decode_entries(wires, term=term, index=first_index) == made
    spelled = codec.decode_entries([b"\x08\x00" + wire for wire in wires], term=term, index=first_index)
    assert spelled == made
    assert [entry.wire for entry in spelled] == [b"\x08\x00" + wire for wire in wires]


@pytest.mark.parametrize("wires", [[Entry(5, 8).wire], [Entry(4, 7).wire], [Entry(5, 7).wire] * 2, [b"\x10"]])
def test_a_gap_in_a_stream_of_entries_is_malformed(wires: list[bytes]) -> None:
    with pytest.raises(codec.MalformedMessage):
        codec.decode_entries(wires, term=5, index=7)


@given(st.binary(max_size=60))
def test_arbitrary_bytes_decode_or_are_malformed(data: bytes) -> None:
    for decode in (
        codec.decode_message,
        codec.decode_entry,
        codec.decode_hard_state,
        codec.decode_conf_state,
        codec.decode_snapshot,
        codec.decode_conf_change,
        codec.decode_conf_change_v2,
    ):
        try:
            decode(data)
        except codec.MalformedMessage:
            assert data


@given(st.builds(HardState, U64, U64, U64))
def test_hard_states_round_trip(state: HardState) -> None:
    data = codec.encode_hard_state(state)
    assert codec.decode_hard_state(data) == state
    assert raft_pb2.HardState(term=state.term, vote=state.vote, commit=state.commit).SerializeToString() == data


@given(SNAPSHOTS)
def test_snapshots_round_trip(snapshot: Snapshot) -> None:
    assert codec.decode_snapshot(codec.encode_snapshot(snapshot)) == snapshot
    assert codec.decode_conf_state(codec.encode_conf_state(snapshot.conf_state)) == snapshot.conf_state


@pytest.mark.parametrize(
    "change",
    [
        ConfChange(ConfChangeType.ADD_NODE, 2**63, id=5, context=b'{"id":1}'),
        ConfChange(ConfChangeType.REMOVE_NODE, 1),
        ConfChangeV2(),
        ConfChangeV2(((ConfChangeType.ADD_LEARNER_NODE, 7), (ConfChangeType.REMOVE_NODE, 8)), context=b"x"),
        ConfChangeV2(((ConfChangeType.ADD_NODE, 1),), ConfChangeTransition.JOINT_EXPLICIT),
    ],
)
def test_configuration_changes_round_trip(change: ConfChange | ConfChangeV2) -> None:
    kind = EntryType.CONF_CHANGE_V2 if isinstance(change, ConfChangeV2) else EntryType.CONF_CHANGE
    assert codec.conf_change_in(Entry(1, 1, codec.encode_conf_change(change), kind)) == change


def test_the_change_that_leaves_a_joint_configuration_is_empty() -> None:
    assert codec.encode_conf_change(ConfChangeV2()) == b""


def test_an_entry_of_another_type_is_not_a_configuration_change() -> None:
    with pytest.raises(codec.MalformedMessage):
        codec.conf_change_in(Entry(1, 1, b"x"))


# As etcd 3.5.1 writes them: every number, zero or not, and an empty snapshot in every message.
SENDER, RECEIVER = 0xE483793C6BF41C8, 0xB5379D9B55DDB37F
PUT_351 = bytes.fromhex("22130a0a") + b"streamtest" + bytes.fromhex("1205") + b"hello"
REQUEST_351 = PUT_351 + bytes.fromhex("a2060b088187949ac5b8d0e4d201")[: 35 - len(PUT_351)]
ENTRY_351 = bytes.fromhex("080010051891022223") + REQUEST_351


def test_an_append_of_etcd_3_5_1_decodes_and_encodes() -> None:
    to, from_ = encode_varint(RECEIVER), encode_varint(SENDER)
    assert len(ENTRY_351) == 0x2C
    data = (
        bytes.fromhex("080310") + to + b"\x18" + from_ + bytes.fromhex("20052805309002")
        + b"\x3a\x2c" + ENTRY_351
        + bytes.fromhex("4090024a0a12080a022800100018005000580062006800")
    )  # fmt: skip
    message = codec.decode_message(data)
    assert (message.type, message.to, message.from_) == (MessageType.APP, RECEIVER, SENDER)
    assert (message.term, message.log_term, message.index, message.commit) == (5, 5, 272, 272)
    assert (message.reject, message.reject_hint, message.context, message.snapshot) == (False, 0, b"", None)
    (entry,) = message.entries
    assert (entry.term, entry.index, entry.type, entry.data) == (5, 273, 0, REQUEST_351)
    assert entry.wire == ENTRY_351


def test_a_stream_heartbeat_of_etcd_3_5_1_decodes() -> None:
    data = bytes.fromhex("0808100018002000280030004000") + bytes.fromhex("4a0a12080a0228001000180050005800")
    message = codec.decode_message(data)
    assert message == Message(MessageType.HEARTBEAT)


def test_a_bootstrap_hard_state_of_etcd_3_5_1_decodes() -> None:
    assert codec.encode_hard_state(HardState(1, 0, 3)) == bytes.fromhex("080110001803")
    assert codec.encode_hard_state(HardState()) == bytes.fromhex("080010001800")


def test_a_configuration_of_etcd_3_5_1_decodes() -> None:
    assert codec.encode_conf_state(ConfState(voters=(5,))) == bytes.fromhex("08052800")
    snapshot = Snapshot(11, 2, ConfState(voters=(5,)))
    assert codec.encode_snapshot(snapshot) == bytes.fromhex("120a0a0408052800100b1802")
    assert codec.decode_conf_state(bytes.fromhex("080908052800")) == ConfState(voters=(5, 9))


@pytest.mark.parametrize("number", [19, 20, 21, 22])
def test_message_types_local_to_an_etcd_member_decode(number: int) -> None:
    assert codec.decode_message(bytes((0x08, number))).type == number


def test_an_unknown_message_type_decodes_as_one_that_is_dropped() -> None:
    assert codec.decode_message(b"\x08\x63\x10\x01").type is MessageType.HUP


def spelled_out(message: Message) -> bytes:
    """The same message with every zero written, as by etcd up to 3.6."""
    raw = raft_pb2.Message.FromString(codec.encode_message(message))
    for field in raw.DESCRIPTOR.fields:
        if field.name in ("type", "to", "from", "term", "logTerm", "index", "commit", "reject", "rejectHint"):
            setattr(raw, field.name, getattr(raw, field.name))
    if message.snapshot is None:
        raw.snapshot.metadata.conf_state.auto_leave = False
        raw.snapshot.metadata.index = raw.snapshot.metadata.term = 0
    return raw.SerializeToString(deterministic=True)
