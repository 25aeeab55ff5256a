"""The header of every response: cluster, member, revision and term.

A response is pasted from its header (field 1) and the body that the state machine encoded: protobuf parses concatenated fields
as one message. Three of the four numbers rarely change, so only the revision is encoded again, and only after it has changed:
reads and renewals between two writes share one header.
"""

from __future__ import annotations

from tercet.proto.wire import varint
from tercet.replica.replica import Replica


class Headers:
    """Encodes response headers for one member."""

    __slots__ = (
        "_current",
        "_current_revision",
        "_identity",
        "_replica",
        "_term",
        "_term_bytes",
        "cluster_id",
        "member_id",
    )

    def __init__(self, replica: Replica, *, cluster_id: int, member_id: int) -> None:
        self._replica = replica
        self.cluster_id = cluster_id
        self.member_id = member_id
        self._identity = b"\x08" + varint(cluster_id) + b"\x10" + varint(member_id)
        self._term = -1
        self._term_bytes = b""
        self._current = b""  # what `current` returned last, at this revision and `_term`
        self._current_revision = -1

    def encode(self, revision: int) -> bytes:
        """Field 1 of a response: tag, length, ResponseHeader. Revision 0 is omitted, as protobuf omits zeros."""
        term = self._replica.term
        if term != self._term:
            self._term = term
            self._term_bytes = b"\x20" + varint(term)
            self._current_revision = -1
        number = b"\x18" + varint(revision) if revision else b""
        size = len(self._identity) + len(number) + len(self._term_bytes)
        return b"\x0a%b%b%b%b" % (varint(size), self._identity, number, self._term_bytes)

    def current(self) -> bytes:
        """The header with the store's current revision."""
        replica = self._replica
        revision = replica.revision
        if revision != self._current_revision or replica.term != self._term:
            self._current = self.encode(revision)
            self._current_revision = revision
        return self._current
