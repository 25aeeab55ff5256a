"""etcd's peer protocol: how members exchange raft's messages, databases and a few questions over HTTP/1.1.

The front door is `Transport`; `PeerClient` asks members when there is no transport yet.
"""

from tercet.peer.client import ClusterView, NoAnswer, PeerClient
from tercet.peer.context import Handler, Limits
from tercet.peer.headers import Identity
from tercet.peer.member_endpoints import MemberApi, MemberJson, NotPrimaryLessor
from tercet.peer.snapshot_receiver import snapshot_path
from tercet.peer.status import PeerStatus
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
    "Transport",
    "snapshot_path",
]
