"""Which number is a member, and which a cluster?

Both are the first eight bytes of a SHA-1, read big-endian, so that every member of a new cluster computes the same ones
from the same flags without talking to anybody:

    member  = SHA-1( sorted peer URLs, joined without a separator  +  cluster token  [ + decimal unix seconds ] )
    cluster = SHA-1( the initial members' ids, ascending, eight big-endian bytes each )

The time is only there for a member added to a running cluster (with an empty token), so that one that is removed and added
again under the same URLs is a new one: ids are never used twice. Changing peer URLs later keeps the id.

Pure: no I/O, no clock. Source: etcd server/etcdserver/api/membership, NewMember and genID.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha1


def member_id(peer_urls: Iterable[str], cluster_token: str = "", unix_seconds: int | None = None) -> int:
    """The id of a member. `unix_seconds` (the moment of the add) and an empty token for one added at runtime.

    Zero is "no member" to raft; a hash of zero (2**-64) is the caller's to refuse, as a clash with a known member is.
    """
    text = "".join(sorted(peer_urls)) + cluster_token
    if unix_seconds is not None:
        text += str(unix_seconds)
    return _first_eight(text.encode())


def cluster_id(member_ids: Iterable[int]) -> int:
    """The id of a cluster that starts with these members; it never changes afterwards."""
    return _first_eight(b"".join(member.to_bytes(8, "big") for member in sorted(member_ids)))


def _first_eight(data: bytes) -> int:
    return int.from_bytes(sha1(data, usedforsecurity=False).digest()[:8], "big")
