"""The header of every response: cluster, member, revision and term.

A response is pasted from its header (field 1) and the body that the state machine encoded: protobuf parses concatenated fields
as one message. Three of the four numbers rarely change, so only the revision is encoded on every call.
"""

from __future__ import annotations

from tercet.proto.wire import encode_varint
from tercet.replica.replica import Replica


class Headers:
    """Encodes response headers for one member."""

    __slots__ = ("_identity", "_replica", "_term", "_term_bytes", "cluster_id", "member_id")

    def __init__(self, replica: Replica, *, cluster_id: int, member_id: int) -> None:
        self._replica = replica
        self.cluster_id = cluster_id
        self.member_id = member_id
        self._identity = b"\x08" + encode_varint(cluster_id) + b"\x10" + encode_varint(member_id)
        self._term = -1
        self._term_bytes = b""

    def encode(self, revision: int) -> bytes:
        """Field 1 of a response: tag, length, ResponseHeader. Revision 0 is omitted, as protobuf omits zeros."""
        term = self._replica.term
        if term != self._term:
            self._term = term
            self._term_bytes = b"\x20" + encode_varint(term)
        if revision:
            content = b"%b\x18%b%b" % (self._identity, encode_varint(revision), self._term_bytes)
        else:
            content = self._identity + self._term_bytes
        return b"\x0a%c%b" % (len(content), content)  # at most 4 * 11 bytes: the length fits one byte

    def current(self) -> bytes:
        """The header with the store's current revision."""
        return self.encode(self._replica.revision)
