"""Encoding and decoding of raftpb, for messages, the write-ahead log and snapshots.

Encodes as etcd 3.7 does: only fields that are set, in the order of field numbers. Decodes any form, including etcd's up to 3.6,
which writes zeros and puts an empty snapshot into every message. An entry is never encoded again: its wire form is pasted.

Decoding uses protobuf, except for the common forms (fast_codec.py). Malformed bytes raise MalformedMessage only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, cast

from google.protobuf.message import DecodeError

from tercet.errors import TercetError
from tercet.proto import raft_pb2
from tercet.proto.wire import encode_varint, varint
from tercet.raft.fast_codec import read_data_after, read_entry_data, read_message
from tercet.raft.message_types import BY_NUMBER
from tercet.raft.types import (
    ConfChange,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    Snapshot,
)

_IDS_KNOWN_MAX: Final = 256
_ID_BYTES: Final[dict[int, bytes]] = {}


class MalformedMessage(TercetError):
    """Bytes that do not decode. The caller knows their source: a peer, the disk or a file."""


def encode_message(message: Message) -> bytes:
    """raftpb.Message; entries are pasted from their wire form."""
    parts = [b"\x08", varint(message.type)]
    if message.to:
        parts += (b"\x10", _encode_id(message.to))
    if message.from_:
        parts += (b"\x18", _encode_id(message.from_))
    for tag, number in (
        (b"\x20", message.term),
        (b"\x28", message.log_term),
        (b"\x30", message.index),
    ):
        if number:
            parts += (tag, varint(number))
    for entry in message.entries:
        wire = entry.wire
        parts += (b"\x3a", varint(len(wire)), wire)
    if message.commit:
        parts += (b"\x40", varint(message.commit))
    if message.snapshot is not None:
        snapshot = encode_snapshot(message.snapshot)
        parts += (b"\x4a", varint(len(snapshot)), snapshot)
    if message.reject:
        parts.append(b"\x50\x01")
    if message.reject_hint:
        parts += (b"\x58", varint(message.reject_hint))
    if message.context:
        parts += (b"\x62", varint(len(message.context)), message.context)
    return b"".join(parts)


def _encode_id(id: int) -> bytes:
    """Cached: the few member ids of a cluster are in every message, at ten bytes each."""
    known = _ID_BYTES.get(id)
    if known is None:
        if len(_ID_BYTES) >= _IDS_KNOWN_MAX:
            _ID_BYTES.clear()
        known = _ID_BYTES[id] = encode_varint(id)
    return known


ENTRIES_MAX: Final = 1 << 17
"""In a message. A leader sends up to 1 MiB of entries (config.py; 512 KiB in etcd), of 12 bytes at least."""

SLOW_ENTRIES_MAX: Final = 1 << 15
"""Of those that protobuf decodes, 1 us each: from etcd up to 3.6, whose smallest requests take 35 bytes."""

_ENTRIES: Final = b"\x3a"  # the tag of field 7
_OTHER_FIELDS: Final = 16  # of a message
_LENGTH_DELIMITED: Final = 2


def decode_message(data: bytes) -> Message:
    """raftpb.Message, in any form. An unknown type decodes as HUP, which `step` drops. Raises MalformedMessage."""
    _check_entries(data, ENTRIES_MAX)
    message = read_message(data)
    return decode_message_slowly(data) if message is None else message


def decode_message_slowly(data: bytes) -> Message:
    """The slow twin of `read_message`, and the decoder of all other forms. Raises MalformedMessage."""
    _check_entries(data, SLOW_ENTRIES_MAX)
    try:
        raw = raft_pb2.Message.FromString(data)
    except DecodeError as error:
        raise MalformedMessage(f"raft message of {len(data)} bytes: {error}") from error
    return Message(
        BY_NUMBER[raw.type],
        to=raw.to,
        from_=getattr(raw, "from"),
        term=raw.term,
        log_term=raw.logTerm,
        index=raw.index,
        entries=[Entry(raw.Term, raw.Index, raw.Data, raw.Type, raw.SerializeToString()) for raw in raw.entries],
        commit=raw.commit,
        snapshot=_snapshot(raw.snapshot) if raw.snapshot.metadata.index else None,
        reject=raw.reject,
        reject_hint=raw.rejectHint,
        context=raw.context,
    )


def _check_entries(data: bytes, limit: int) -> None:
    if len(data) > 2 * limit and data.count(_ENTRIES) > limit and _has_more_fields(data, limit + _OTHER_FIELDS):
        raise MalformedMessage(f"raft message of {len(data)} bytes: more than {limit} entries")


def _has_more_fields(data: bytes, limit: int) -> bool:
    """Does a message have more fields than `limit`? Millions of empty entries would take a second to parse.

    Only as far as its fields are well-formed: the parser refuses the others.
    """
    at = count = 0
    while at < len(data) and count <= limit:
        kind = data[at] & 7
        at += 1
        size, start = 0, at
        while at < len(data) and at - start < 10:
            byte = data[at]
            size |= (byte & 0x7F) << 7 * (at - start)
            at += 1
            if byte < 0x80:
                break
        if kind == _LENGTH_DELIMITED:
            at += size
        elif kind:
            return False
        count += 1
    return count > limit


def decode_entry(data: bytes) -> Entry:
    """raftpb.Entry; `data` becomes its wire form. Raises MalformedMessage."""
    try:
        raw = raft_pb2.Entry.FromString(data)
    except DecodeError as error:
        raise MalformedMessage(f"raft entry of {len(data)} bytes: {error}") from error
    return Entry(raw.Term, raw.Index, raw.Data, raw.Type, data)


def decode_entries(wires: Iterable[bytes], *, term: int, index: int) -> list[Entry]:
    """Consecutive entries of one term from `index` on, as in an append stream. Raises MalformedMessage."""
    read = raft_pb2.Entry.FromString
    entries: list[Entry] = []
    term_field = b"\x10" + varint(term) + b"\x18"
    try:
        for position, wire in enumerate(wires, index):
            data = read_data_after(wire, term_field + varint(position))
            if data is None:
                data = read_entry_data(wire, term, position)
            if data is not None:
                entries.append(Entry(term, position, data, 0, wire))
                continue
            raw = read(wire)
            if raw.Index != position or raw.Term != term:
                raise MalformedMessage(f"raft entry at {raw.Index}/{raw.Term} instead of {position}/{term}")
            entries.append(Entry(term, position, raw.Data, raw.Type, wire))
    except DecodeError as error:
        raise MalformedMessage(f"raft entry {len(entries) + 1} of an append: {error}") from error
    return entries


def encode_hard_state(state: HardState) -> bytes:
    """raftpb.HardState with all fields, as every version of etcd expects it in its log."""
    return b"".join(
        (b"\x08", encode_varint(state.term), b"\x10", encode_varint(state.vote), b"\x18", encode_varint(state.commit))
    )


def decode_hard_state(data: bytes) -> HardState:
    """Raises MalformedMessage."""
    try:
        raw = raft_pb2.HardState.FromString(data)
    except DecodeError as error:
        raise MalformedMessage(f"hard state of {len(data)} bytes: {error}") from error
    return HardState(raw.term, raw.vote, raw.commit)


def encode_conf_state(conf: ConfState) -> bytes:
    return _raw_conf_state(conf).SerializeToString(deterministic=True)


def decode_conf_state(data: bytes) -> ConfState:
    """Raises MalformedMessage."""
    try:
        return _conf_state(raft_pb2.ConfState.FromString(data))
    except DecodeError as error:
        raise MalformedMessage(f"configuration of {len(data)} bytes: {error}") from error


def encode_snapshot(snapshot: Snapshot) -> bytes:
    raw = raft_pb2.Snapshot(
        data=snapshot.data or None,
        metadata=raft_pb2.SnapshotMetadata(
            conf_state=_raw_conf_state(snapshot.conf_state), index=snapshot.index, term=snapshot.term
        ),
    )
    return raw.SerializeToString(deterministic=True)


def decode_snapshot(data: bytes) -> Snapshot:
    """Raises MalformedMessage."""
    try:
        return _snapshot(raft_pb2.Snapshot.FromString(data))
    except DecodeError as error:
        raise MalformedMessage(f"snapshot of {len(data)} bytes: {error}") from error


def encode_conf_change(change: ConfChange | ConfChangeV2) -> bytes:
    """The data of an entry of type CONF_CHANGE or CONF_CHANGE_V2, by the class of `change`."""
    if isinstance(change, ConfChange):
        kind = cast("raft_pb2.ConfChangeType.ValueType", int(change.type))
        raw = raft_pb2.ConfChange(id=change.id, type=kind, node_id=change.node_id, context=change.context or None)
        return raw.SerializeToString(deterministic=True)
    raw_v2 = raft_pb2.ConfChangeV2(context=change.context or None)
    if change.transition:
        raw_v2.transition = cast("raft_pb2.ConfChangeTransition.ValueType", int(change.transition))
    for change_type, member in change.changes:
        raw_v2.changes.add(type=cast("raft_pb2.ConfChangeType.ValueType", int(change_type)), node_id=member)
    return raw_v2.SerializeToString(deterministic=True)


def decode_conf_change(data: bytes) -> ConfChange:
    """The data of an entry of type CONF_CHANGE. Raises MalformedMessage."""
    try:
        raw = raft_pb2.ConfChange.FromString(data)
    except DecodeError as error:
        raise MalformedMessage(f"configuration change of {len(data)} bytes: {error}") from error
    return ConfChange(ConfChangeType(raw.type), raw.node_id, raw.id, raw.context)


def decode_conf_change_v2(data: bytes) -> ConfChangeV2:
    """The data of an entry of type CONF_CHANGE_V2. Raises MalformedMessage."""
    try:
        raw = raft_pb2.ConfChangeV2.FromString(data)
    except DecodeError as error:
        raise MalformedMessage(f"configuration change of {len(data)} bytes: {error}") from error
    changes = tuple((ConfChangeType(change.type), change.node_id) for change in raw.changes)
    return ConfChangeV2(changes, ConfChangeTransition(raw.transition), raw.context)


def conf_change_in(entry: Entry) -> ConfChange | ConfChangeV2:
    """The change in an entry, by the entry's type. Raises MalformedMessage."""
    if entry.type == EntryType.CONF_CHANGE:
        return decode_conf_change(entry.data)
    if entry.type == EntryType.CONF_CHANGE_V2:
        return decode_conf_change_v2(entry.data)
    raise MalformedMessage(f"raft entry of type {entry.type} is not a configuration change")


def _snapshot(raw: raft_pb2.Snapshot) -> Snapshot:
    metadata = raw.metadata
    return Snapshot(metadata.index, metadata.term, _conf_state(metadata.conf_state), raw.data)


def _conf_state(raw: raft_pb2.ConfState) -> ConfState:
    """Sorted, since the order on the wire has no meaning and equal configurations must compare equal."""
    parts = (raw.voters, raw.learners, raw.voters_outgoing, raw.learners_next)
    voters, learners, voters_outgoing, learners_next = (tuple(sorted(part)) for part in parts)
    return ConfState(voters, learners, voters_outgoing, learners_next, raw.auto_leave)


def _raw_conf_state(conf: ConfState) -> raft_pb2.ConfState:
    """`auto_leave` is always written, as etcd does."""
    return raft_pb2.ConfState(
        voters=conf.voters,
        learners=conf.learners,
        voters_outgoing=conf.voters_outgoing,
        learners_next=conf.learners_next,
        auto_leave=conf.auto_leave,
    )
