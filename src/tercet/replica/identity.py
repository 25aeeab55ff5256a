"""Member and cluster ids, computed from the initial cluster.

Both are the first eight bytes of a SHA-1, read big-endian, so every member of a new cluster computes the same ids from the
same flags, without contacting the others:

    member  = SHA-1( sorted peer URLs, joined without a separator  +  cluster token  [ + decimal unix seconds ] )
    cluster = SHA-1( the initial members' ids, ascending, eight big-endian bytes each )

The time is part of the id only for a member added to a running cluster (its token is empty): a member removed and added
again under the same URLs gets a new id, and ids are never reused. Changing peer URLs later keeps the id.

Source: etcd server/etcdserver/api/membership, NewMember and genID.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha1


def member_id(peer_urls: Iterable[str], cluster_token: str = "", unix_seconds: int | None = None) -> int:
    """The id of a member. `unix_seconds` (the time of the MemberAdd) and an empty token for one added at runtime.

    Raft reserves 0 for "no member"; the caller refuses a hash of 0 (probability 2**-64) as it refuses an id in use.
    """
    text = "".join(sorted(peer_urls)) + cluster_token
    if unix_seconds is not None:
        text += str(unix_seconds)
    return _first_eight(text.encode())


def cluster_id(member_ids: Iterable[int]) -> int:
    """The id of a cluster bootstrapped with these members; it never changes."""
    return _first_eight(b"".join(member.to_bytes(8, "big") for member in sorted(member_ids)))


def _first_eight(data: bytes) -> int:
    return int.from_bytes(sha1(data, usedforsecurity=False).digest()[:8], "big")
