"""Errors, by what the member does next.

A `RequestError` is a response that every member would give; the member goes on. `Unavailable` is a response too, but the write
may have happened. `StorageFailure` and `InvariantViolation` stop the member, which can no longer vouch for its log. Applying an
entry raises no errors but `RequestError`: with any other the members could diverge.

Codes and texts are etcd's, byte for byte: clients recognise errors by their text.
Source: etcd api/v3rpc/rpctypes/error.go.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TypeVar


class Code(IntEnum):
    """gRPC status codes (https://grpc.github.io/grpc/core/md_doc_statuscodes.html)."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


ErrorType = TypeVar("ErrorType", bound=BaseException)


class TercetError(Exception):
    """Base of the exceptions that tercet raises."""


class StatusError(TercetError):
    """An error that is sent to a client as a gRPC status."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class RequestError(StatusError):
    """The request cannot be served; every member would respond the same."""


def strip_traceback(error: ErrorType) -> ErrorType:
    """The error without its traceback and context (see the shared instances below)."""
    error.__traceback__ = None
    error.__context__ = None
    return error


class Unavailable(StatusError):
    """No leader, no quorum, timed out or too busy; a write may or may not have happened."""


class StorageFailure(TercetError):
    """A failed fsync, a wrong checksum, damage before the end of the log: the member stops. The text names file and offset."""


class CorruptRecord(StorageFailure):
    """A stored record has a wrong checksum. A read answers `CORRUPT`, and the member raises the alarm; applying stops it.

    key: under which the record is stored.
    """

    def __init__(self, message: str, key: bytes) -> None:
        super().__init__(message)
        self.key = key


class DamagedDatabase(StorageFailure):
    """The database file is truncated, or its pages make no sense. The log beside it may be sound."""


class ConfigError(TercetError):
    """A flag, variable, file or data directory that the member cannot start with. The text is one line, for the operator."""


class ListenerError(ConfigError):
    """The TLS files of the client listeners do not load."""


class InvariantViolation(TercetError):
    """A bug: the member stops before it spreads wrong state."""


def require(condition: bool, text: str, *state: object) -> None:
    """Assert an invariant, also under `python -O`. Raises InvariantViolation with the state in its text."""
    if not condition:
        raise InvariantViolation(f"{text}: {', '.join(map(repr, state))}" if state else text)


def _invalid(text: str) -> RequestError:
    return RequestError(Code.INVALID_ARGUMENT, text)


def _precondition(text: str) -> RequestError:
    return RequestError(Code.FAILED_PRECONDITION, text)


# Shared instances: a hot path responds with one without building it. Each raise of the same instance appends to its traceback,
# which keeps frames and their objects alive: the code that handles one finally calls `strip_traceback`.
EMPTY_KEY = _invalid("etcdserver: key is not provided")
KEY_NOT_FOUND = _invalid("etcdserver: key not found")
VALUE_PROVIDED = _invalid("etcdserver: value is provided")
LEASE_PROVIDED = _invalid("etcdserver: lease is provided")
TOO_MANY_OPS = _invalid("etcdserver: too many operations in txn request")
DUPLICATE_KEY = _invalid("etcdserver: duplicate key given in txn request")
INVALID_CLIENT_API_VERSION = _invalid("etcdserver: invalid client api version")
INVALID_SORT_OPTION = _invalid("etcdserver: invalid sort option")
REQUEST_TOO_LARGE = _invalid("etcdserver: request is too large")
BAD_MEMBER_URLS = _invalid("etcdserver: given member URLs are invalid")
COMPACTED = RequestError(Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted")
FUTURE_REVISION = RequestError(Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision")
TOO_LARGE_LEASE_TTL = RequestError(Code.OUT_OF_RANGE, "etcdserver: too large lease TTL")
NO_SPACE = RequestError(Code.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded")
CORRUPT = RequestError(Code.DATA_LOSS, "etcdserver: corrupt cluster")
LEASE_NOT_FOUND = RequestError(Code.NOT_FOUND, "etcdserver: requested lease not found")
LEASE_EXISTS = _precondition("etcdserver: lease already exists")
MEMBER_NOT_FOUND = RequestError(Code.NOT_FOUND, "etcdserver: member not found")
MEMBER_EXISTS = _precondition("etcdserver: member ID already exist")
PEER_URL_EXISTS = _precondition("etcdserver: Peer URLs already exists")
NOT_ENOUGH_STARTED = RequestError(Code.UNKNOWN, "etcdserver: re-configuration failed due to not enough started members")
LEARNER_ONLY = _precondition("etcdserver: can only promote a learner member")
LEARNER_NOT_READY = _precondition("etcdserver: can only promote a learner member which is in sync with leader")
TOO_MANY_LEARNERS = _precondition("etcdserver: too many learner members in cluster")
NOT_LEADER = _precondition("etcdserver: not leader")
ROOT_USER_NOT_FOUND = _precondition("etcdserver: root user does not exist")
ROOT_ROLE_NOT_FOUND = _precondition("etcdserver: root user does not have root role")
USER_EXISTS = _precondition("etcdserver: user name already exists")
USER_EMPTY = _invalid("etcdserver: user name is empty")
USER_NOT_FOUND = _precondition("etcdserver: user name not found")
ROLE_EXISTS = _precondition("etcdserver: role name already exists")
ROLE_NOT_FOUND = _precondition("etcdserver: role name not found")
ROLE_EMPTY = _invalid("etcdserver: role name is empty")
AUTH_FAILED = _invalid("etcdserver: authentication failed, invalid user ID or password")
NO_PASSWORD_USER = RequestError(Code.UNKNOWN, "auth: authentication failed, password was given for no password user")
PASSWORD_TOO_LONG = RequestError(Code.UNKNOWN, "bcrypt: password length exceeds 72 bytes")
PERMISSION_NOT_GIVEN = _invalid("etcdserver: permission not given")
PERMISSION_DENIED = RequestError(Code.PERMISSION_DENIED, "etcdserver: permission denied")
ROLE_NOT_GRANTED = _precondition("etcdserver: role is not granted to the user")
PERMISSION_NOT_GRANTED = _precondition("etcdserver: permission is not granted to the role")
AUTH_NOT_ENABLED = _precondition("etcdserver: authentication is not enabled")
AUTH_OLD_REVISION = _invalid("etcdserver: revision of auth store is old")
INVALID_AUTH_MANAGEMENT = _invalid("etcdserver: invalid auth management")
INVALID_AUTH_TOKEN = RequestError(Code.UNAUTHENTICATED, "etcdserver: invalid auth token")
TOKEN_VERIFY_ONLY = RequestError(Code.UNKNOWN, "auth: token signing attempted with verify-only key")
NOT_SUPPORTED_FOR_LEARNER = _precondition("etcdserver: rpc not supported for learner")
WRONG_DOWNGRADE_VERSION_FORMAT = _invalid("etcdserver: wrong downgrade target version format")
INVALID_DOWNGRADE_TARGET = _invalid("etcdserver: invalid downgrade target version")
CLUSTER_VERSION_UNAVAILABLE = _precondition("etcdserver: cluster version not found during downgrade")
DOWNGRADE_IN_PROCESS = _precondition("etcdserver: cluster has a downgrade job in progress")
NO_INFLIGHT_DOWNGRADE = _precondition("etcdserver: no inflight downgrade job")
UNKNOWN_METHOD = RequestError(Code.UNKNOWN, "etcdserver: unknown method")
BAD_LEADER_TRANSFEREE = _precondition("etcdserver: bad leader transferee")
TOO_MANY_REQUESTS = Unavailable(Code.UNKNOWN, "etcdserver: too many requests")
NO_LEADER = Unavailable(Code.UNAVAILABLE, "etcdserver: no leader")
STOPPED = Unavailable(Code.UNAVAILABLE, "etcdserver: server stopped")
TIMEOUT = Unavailable(Code.UNAVAILABLE, "etcdserver: request timed out")
TIMEOUT_LEADER_FAILURE = Unavailable(Code.UNAVAILABLE, "etcdserver: request timed out, possibly due to previous leader failure")
TIMEOUT_CONNECTION_LOST = Unavailable(Code.UNAVAILABLE, "etcdserver: request timed out, possibly due to connection lost")
TIMEOUT_WAIT_APPLIED = Unavailable(
    Code.UNAVAILABLE, "etcdserver: request timed out, waiting for the applied index took too long"
)
LEADER_CHANGED = Unavailable(Code.UNAVAILABLE, "etcdserver: leader changed")
NOT_PRIMARY = Unavailable(Code.UNKNOWN, "not a primary lessor")
NOT_CONFIRMED = Unavailable(Code.UNKNOWN, "not a primary lessor")  # a leader that cannot confirm that it still is one
UNHEALTHY = Unavailable(Code.UNAVAILABLE, "etcdserver: unhealthy cluster")
TIMEOUT_LEADER_TRANSFER = Unavailable(Code.UNKNOWN, "etcdserver: request timed out, leader transfer took too long")
PROPOSAL_DROPPED = Unavailable(Code.UNKNOWN, "raft proposal dropped")

CONNECTION_CLOSING = "the client connection is closing"
"""With CANCELLED, for calls of a client that closes its connection."""
