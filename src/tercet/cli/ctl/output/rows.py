"""Columns that the simple and the table format share: members, and health, status and hash of endpoints."""

from __future__ import annotations

from collections.abc import Sequence

from tercet.cli.ctl.output.printer import EndpointHash, EndpointHealth, EndpointStatus, by_number
from tercet.gotext.strconv import humanize_bytes
from tercet.proto import rpc_pb2

MEMBER_HEADER = ("ID", "Status", "Name", "Peer Addrs", "Client Addrs", "Is Learner")
HEALTH_HEADER = ("endpoint", "health", "took", "error")
HASH_HEADER = ("endpoint", "hash", "hash_revision")
STATUS_HEADER = (
    *("endpoint", "ID", "version", "storage version", "db size", "in use", "percentage not in use", "quota"),
    *("is leader", "is learner", "raft term", "raft index", "raft applied index", "errors"),
    *("downgrade target version", "downgrade enabled"),
)


def boolean(value: bool) -> str:
    return "true" if value else "false"


def member_rows(response: rpc_pb2.MemberListResponse) -> list[list[str]]:
    return [
        [
            f"{member.ID:x}",
            "started" if member.name else "unstarted",
            member.name,
            ",".join(member.peerURLs),
            ",".join(member.clientURLs),
            boolean(member.isLearner),
        ]
        for member in by_number(response)
    ]


def health_rows(results: Sequence[EndpointHealth]) -> list[list[str]]:
    return [[result.endpoint, boolean(result.health), result.took, result.error] for result in results]


def hash_rows(results: Sequence[EndpointHash]) -> list[list[str]]:
    return [[result.endpoint, str(result.response.hash), str(result.response.hash_revision)] for result in results]


def status_rows(results: Sequence[EndpointStatus]) -> list[list[str]]:
    return [_status_row(result.endpoint, result.response) for result in results]


def _status_row(endpoint: str, status: rpc_pb2.StatusResponse) -> list[str]:
    used_percent = status.dbSizeInUse * 100 // status.dbSize if status.dbSize else 100
    return [
        endpoint,
        f"{status.header.member_id:x}",
        status.version,
        status.storageVersion,
        humanize_bytes(status.dbSize),
        humanize_bytes(status.dbSizeInUse),
        f"{100 - used_percent}%",
        humanize_bytes(status.dbSizeQuota),
        boolean(status.leader == status.header.member_id),
        boolean(status.isLearner),
        str(status.raftTerm),
        str(status.raftIndex),
        str(status.raftAppliedIndex),
        ", ".join(status.errors),
        status.downgradeInfo.targetVersion,
        boolean(status.downgradeInfo.enabled),
    ]
