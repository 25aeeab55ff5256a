"""Classes of messages: local, responses, forwarded, from leaders, and those held until a write is durable."""

from __future__ import annotations

from typing import Final

from tercet.raft.types import MessageType

BY_NUMBER: Final = {int(kind): kind for kind in MessageType}
LOCAL: Final = frozenset(
    {
        MessageType.HUP,
        MessageType.BEAT,
        MessageType.UNREACHABLE,
        MessageType.CHECK_QUORUM,
        MessageType.STORAGE_APPEND,
        MessageType.STORAGE_APPEND_RESP,
        MessageType.STORAGE_APPLY,
        MessageType.STORAGE_APPLY_RESP,
        MessageType.FORGET_LEADER,
    }
)
RESPONSES: Final = frozenset(
    {
        MessageType.APP_RESP,
        MessageType.VOTE_RESP,
        MessageType.HEARTBEAT_RESP,
        MessageType.READ_INDEX_RESP,
        MessageType.PRE_VOTE_RESP,
    }
)
FORWARDED: Final = frozenset({MessageType.PROP, MessageType.READ_INDEX})  # the only ones sent without a term
VOTE_REQUESTS: Final = frozenset({MessageType.VOTE, MessageType.PRE_VOTE})
FROM_LEADER: Final = frozenset({MessageType.APP, MessageType.HEARTBEAT, MessageType.SNAP})
# Sent once everything that the turn wrote is durable (pending_writes.py).
AFTER_APPEND: Final = frozenset({MessageType.APP_RESP, MessageType.VOTE_RESP, MessageType.PRE_VOTE_RESP, MessageType.VOTE})
