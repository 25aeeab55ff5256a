"""The headers by which peers identify themselves, and the check that they are compatible.

    X-Server-From: 8e9e05c52164694d          the sender (requests under /raft)
    X-Server-Version: 3.7.1                  its version; also on the answer to a stream request
    X-Min-Cluster-Version: 3.0.0             the oldest version it can talk to
    X-Etcd-Cluster-ID: cdf818194e3a8c32      its cluster; also on answers
    X-PeerURLs: http://10.0.0.1:2380,...     its peer URLs, for a receiver that does not know it yet
    X-Raft-To: e483793c6bf41c8               the receiver it means (stream requests)

A missing version reads as 2.0.0, as in etcd. A malformed one does too, so that the peer is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from tercet.http1.messages import TextHeaders

Version = tuple[int, int]

MIN_CLUSTER_VERSION: Final = "3.0.0"
_UNKNOWN_VERSION: Final[Version] = (2, 0)
_OLDEST_WITH_BOTH_STREAMS: Final[Version] = (2, 1)
_VERSION = re.compile(r"(\d{1,9})\.(\d{1,9})\.\d{1,9}(?:[-+][0-9A-Za-z.+-]*)?")
_HEX_ID = re.compile(r"[0-9a-fA-F]{1,16}")


class Identity(NamedTuple):
    """What this member tells its peers about itself. `peer_urls` are the advertised ones."""

    id: int
    cluster_id: int
    version: str
    peer_urls: tuple[str, ...]

    def request_headers(self, to: int | None = None) -> TextHeaders:
        """The headers of a request under /raft; `to` on stream requests."""
        headers = [
            ("X-Server-From", f"{self.id:x}"),
            ("X-Server-Version", self.version),
            ("X-Min-Cluster-Version", MIN_CLUSTER_VERSION),
            ("X-Etcd-Cluster-ID", f"{self.cluster_id:x}"),
            ("X-PeerURLs", ",".join(self.peer_urls)),
        ]
        if to is not None:
            headers.append(("X-Raft-To", f"{to:x}"))
        return headers


def parse_version(text: str | None) -> Version:
    """Major and minor of `3.7.1`; (2, 0) for a missing or malformed version."""
    match = _VERSION.fullmatch(text) if text else None
    return (int(match[1]), int(match[2])) if match else _UNKNOWN_VERSION


def parse_id(text: str | None) -> int | None:
    """A hexadecimal id, None if malformed. 0, which no member has, parses."""
    return int(text, 16) if text and _HEX_ID.fullmatch(text) else None


def is_compatible(headers: Mapping[str, str], own_version: str) -> bool:
    """Whether the sender of these (lower-case) headers may talk to a member that runs `own_version`."""
    remote = parse_version(headers.get("x-server-version"))
    remote_min = parse_version(headers.get("x-min-cluster-version"))
    return remote >= parse_version(MIN_CLUSTER_VERSION) and remote_min <= parse_version(own_version)


def offers_streams(headers: Mapping[str, str], own_version: str) -> bool:
    """Whether a responder with these (lower-case) headers serves both stream types."""
    remote = parse_version(headers.get("x-server-version"))
    return remote >= min(_OLDEST_WITH_BOTH_STREAMS, parse_version(own_version))
