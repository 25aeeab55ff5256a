"""The exceptions of `tercet.AsyncClient` and `tercet.Client`: one family, by what the caller does next.

    Unavailable       nothing happened; try later                      (a ConnectionError)
    Timeout           a read was not answered in time, or a write was never sent   (a TimeoutError)
    Indeterminate     a write was sent and its answer is lost: it may have happened, or may yet
    the others        the cluster's answer; repeating the same request gives the same

Each has `code`, the gRPC status code, and `message`, the server's text. They are independent of `tercet.errors`, whose classes
are what a member answers: those are compiled, and a compiled class cannot share its layout with TimeoutError.
Source of the texts: etcd api/v3rpc/rpctypes/error.go.
"""

from __future__ import annotations

from tercet import errors as texts
from tercet.errors import Code, StatusError


class TercetError(Exception):
    """Base of the exceptions of tercet's client. code: the gRPC status; message: the server's text, or the client's own."""

    def __init__(self, message: str = "", code: Code = Code.UNKNOWN) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class ConfigurationError(TercetError, ValueError):
    """An endpoint, certificate or option that cannot be used."""


class Unavailable(TercetError, ConnectionError):
    """No member could be reached, or the member that was asked refused to begin. Nothing happened."""


class NoLeader(Unavailable):
    """The member that was asked has no leader."""


class ClientClosed(TercetError, ConnectionError):
    """The client was closed before the call ended, or before it began."""


class ForkedError(ClientClosed):
    """A stream, lease or lock of the parent process was used after a fork. Open a new one in the child."""


class Indeterminate(TercetError):
    """A write was sent, and its answer did not arrive: it may have happened, or may still happen.

    request: the protobuf request. To find out, read what it would have changed; or make writes that can be repeated, with a
    compare on mod_revision.
    """

    def __init__(self, message: str = "", code: Code = Code.UNKNOWN, request: object = None) -> None:
        super().__init__(message, code)
        self.request = request


class Timeout(TercetError, TimeoutError):
    """No answer in time. Nothing was changed: it was a read, or a write that was never sent."""


class Unauthenticated(TercetError):
    """User name, password or token were refused."""


class PermissionDenied(TercetError, PermissionError):
    """The user's roles do not allow the request."""


class InvalidArgument(TercetError, ValueError):
    """The request is malformed."""


class TooLarge(InvalidArgument):
    """The request, or the answer, is larger than a limit of the client or the server."""


class NotFound(TercetError, LookupError):
    """What the request names does not exist."""


class LeaseNotFound(NotFound):
    """The lease has expired, was revoked, or never existed."""


class AlreadyExists(TercetError):
    """What the request would create exists."""


class LeaseExists(AlreadyExists):
    """A lease with this ID exists."""


class FailedPrecondition(TercetError):
    """The cluster's state does not allow the request."""


class Compacted(TercetError):
    """The revision has been compacted. compact_revision: the oldest that can be read; 0 if the server does not say."""

    def __init__(self, message: str = "", code: Code = Code.OUT_OF_RANGE, compact_revision: int = 0) -> None:
        super().__init__(message, code)
        self.compact_revision = compact_revision


class FutureRevision(TercetError):
    """The revision does not exist yet."""


class Rewound(TercetError):
    """The cluster is behind what this client has seen, or is another one: it was restored from a backup."""


class NoSpace(TercetError):
    """The database has reached its quota: free space, defragment, disarm the alarm."""


class TooManyRequests(TercetError):
    """The server refuses the request for now. Nothing happened."""


class Corrupt(TercetError):
    """The cluster has found corrupt data, and refuses requests."""


class LeaseLost(TercetError):
    """A lease that should be kept alive has expired, or may have."""


class LockLost(LeaseLost):
    """The lock that guards a transaction is not held any more. The transaction changed nothing."""


CLIENT_CLOSED = "the client is closed"

_BY_TEXT: dict[str, type[TercetError]] = {
    CLIENT_CLOSED: ClientClosed,
    texts.CONNECTION_CLOSING: ClientClosed,
    texts.COMPACTED.message: Compacted,
    texts.FUTURE_REVISION.message: FutureRevision,
    texts.NO_SPACE.message: NoSpace,
    texts.CORRUPT.message: Corrupt,
    texts.REQUEST_TOO_LARGE.message: TooLarge,
    texts.LEASE_NOT_FOUND.message: LeaseNotFound,
    texts.LEASE_EXISTS.message: LeaseExists,
    texts.MEMBER_EXISTS.message: AlreadyExists,
    texts.PEER_URL_EXISTS.message: AlreadyExists,
    texts.USER_EXISTS.message: AlreadyExists,
    texts.USER_NOT_FOUND.message: NotFound,
    texts.ROLE_EXISTS.message: AlreadyExists,
    texts.ROLE_NOT_FOUND.message: NotFound,
    texts.ROLE_NOT_GRANTED.message: NotFound,
    texts.PERMISSION_NOT_GRANTED.message: NotFound,
    texts.AUTH_FAILED.message: Unauthenticated,
    texts.AUTH_OLD_REVISION.message: Unauthenticated,
    texts.USER_EMPTY.message: Unauthenticated,
    texts.TOO_MANY_REQUESTS.message: TooManyRequests,
    texts.PROPOSAL_DROPPED.message: TooManyRequests,
    texts.NO_LEADER.message: NoLeader,
}
_BY_CODE: dict[Code, type[TercetError]] = {
    Code.CANCELLED: Unavailable,  # by a server, or by a proxy that resets streams
    Code.INVALID_ARGUMENT: InvalidArgument,
    Code.DEADLINE_EXCEEDED: Timeout,
    Code.NOT_FOUND: NotFound,
    Code.ALREADY_EXISTS: AlreadyExists,
    Code.PERMISSION_DENIED: PermissionDenied,
    Code.RESOURCE_EXHAUSTED: TooLarge,
    Code.FAILED_PRECONDITION: FailedPrecondition,
    Code.UNAVAILABLE: Unavailable,
    Code.DATA_LOSS: Corrupt,
    Code.UNAUTHENTICATED: Unauthenticated,
}


def typed(error: StatusError) -> TercetError:
    """The exception for an answer of the cluster, by its text where etcd has one, else by its code."""
    kind = _BY_TEXT.get(error.message) or _BY_CODE.get(error.code, TercetError)
    return kind(error.message, error.code)
