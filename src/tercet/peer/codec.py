"""raftpb.Message, between its bytes on the wire and the core's own object."""

from __future__ import annotations

from tercet.proto import raft_pb2
from tercet.raft.types import ConfState, Entry, Message, MessageType, Snapshot


def encode_message(message: Message) -> bytes:
    """Only fields that are set, in order; entries and snapshot as they are."""
    out = raft_pb2.Message(
        type=message.type.value,
        **{
            name: value
            for name, value in (
                ("to", message.to),
                ("from", message.from_),
                ("term", message.term),
                ("logTerm", message.log_term),
                ("index", message.index),
                ("commit", message.commit),
                ("reject", message.reject),
                ("rejectHint", message.reject_hint),
                ("context", message.context),
            )
            if value
        },
    )
    for entry in message.entries:
        out.entries.add().ParseFromString(entry.wire)
    if message.snapshot is not None:
        s, c = message.snapshot, message.snapshot.conf_state
        out.snapshot.data = s.data
        out.snapshot.metadata.index, out.snapshot.metadata.term = s.index, s.term
        conf = out.snapshot.metadata.conf_state
        conf.voters.extend(c.voters)
        conf.learners.extend(c.learners)
        conf.voters_outgoing.extend(c.voters_outgoing)
        conf.learners_next.extend(c.learners_next)
        conf.auto_leave = c.auto_leave
    return out.SerializeToString()


def decode_message(data: bytes) -> Message:
    """Raises google.protobuf's DecodeError, or ValueError."""
    m = raft_pb2.Message.FromString(data)
    snapshot = None
    if m.type == MessageType.SNAP and m.HasField("snapshot"):
        meta, c = m.snapshot.metadata, m.snapshot.metadata.conf_state
        conf = ConfState(tuple(c.voters), tuple(c.learners), tuple(c.voters_outgoing), tuple(c.learners_next), c.auto_leave)
        snapshot = Snapshot(meta.index, meta.term, conf, m.snapshot.data)
    entries = [Entry(e.Term, e.Index, e.Data, e.Type, e.SerializeToString()) for e in m.entries]
    return Message(
        MessageType(m.type),
        m.to,
        getattr(m, "from"),
        m.term,
        m.logTerm,
        m.index,
        entries,
        m.commit,
        snapshot,
        m.reject,
        m.rejectHint,
        m.context,
    )
