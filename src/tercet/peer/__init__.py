"""etcd's peer protocol: raft messages, database snapshots and cluster queries between members, over HTTP/1.1.

`Transport` is one member's side of it; `PeerClient` queries members before there is a transport.
"""

from tercet.peer.client import ClusterView, NoAnswer, PeerClient
from tercet.peer.context import Handler, Limits
from tercet.peer.headers import Identity
from tercet.peer.member_endpoints import MemberApi, MemberJson, NotPrimaryLessor
from tercet.peer.snapshot_receiver import snapshot_path
from tercet.peer.status import PeerStatus, Receptions
from tercet.peer.transport import Transport

__all__ = [
    "ClusterView",
    "Handler",
    "Identity",
    "Limits",
    "MemberApi",
    "MemberJson",
    "NoAnswer",
    "NotPrimaryLessor",
    "PeerClient",
    "PeerStatus",
    "Receptions",
    "Transport",
    "snapshot_path",
]
