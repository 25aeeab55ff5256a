"""The exceptions of python-etcd3. Any other status of a call is raised as the RpcError itself (compat/grpc_errors.py)."""

from __future__ import annotations


class Etcd3Exception(Exception):
    """Base of the exceptions below."""


class WatchTimedOut(Etcd3Exception):
    """A watch was not created in time, or `watch_once` saw no event in time."""


class InternalServerError(Etcd3Exception):
    """INTERNAL."""


class ConnectionFailedError(Etcd3Exception):
    """UNAVAILABLE: no connection, or the member cannot serve the request now."""

    def __str__(self) -> str:
        return "etcd connection failed"


class ConnectionTimeoutError(Etcd3Exception):
    """DEADLINE_EXCEEDED."""

    def __str__(self) -> str:
        return "etcd connection timeout"


class PreconditionFailedError(Etcd3Exception):
    """FAILED_PRECONDITION."""


class RevisionCompactedError(Etcd3Exception):
    """A watch starts at, or has fallen back to, a compacted revision. `compacted_revision`: the oldest that can be watched."""

    def __init__(self, compacted_revision: int) -> None:
        self.compacted_revision = compacted_revision
        super().__init__()


class NoServerAvailableError(Etcd3Exception):
    """All endpoints have failed a short time ago."""
