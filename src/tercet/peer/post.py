"""The meaning of the answer to a POST of a message or a snapshot."""

from __future__ import annotations

import json

from tercet.http1.client import Answer
from tercet.peer.context import Context


class Refused(ConnectionError):
    """The peer refused the message."""


def check_answer(answer: Answer, to: int, context: Context) -> None:
    """Raises Refused unless the status is 204. 403 and 410 from a member of our own cluster mean that this member was removed.

    Departs from etcd, for which every 403 means removal: since 3.5 a member also answers 403 to a message for another member,
    one that had its address before; and a proxy on the way answers 403 to what its rules forbid, without the cluster's id.
    """
    if answer.status == 204:
        return
    if answer.status == 412:
        raise Refused(f"ignored by the peer: {answer.text}")
    is_ours = answer.headers.get("x-etcd-cluster-id") == f"{context.identity.cluster_id:x}"
    if answer.status in (403, 410) and is_ours and not _is_mismatch(answer.body):
        context.removed_by(to)
    raise Refused(f"status {answer.status} {answer.text}")


def _is_mismatch(body: bytes) -> bool:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(answer, dict) and "mismatch member" in str(answer.get("message"))
