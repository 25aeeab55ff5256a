"""Codes and texts of etcd 3.7, letter by letter: clients compare both. Elsewhere tests refer to the constants."""

from __future__ import annotations

import pytest

from tercet import errors
from tercet.errors import Code, StatusError
from tercet.services import election, lock

E = "etcdserver: "
TEXTS: dict[StatusError, tuple[Code, str]] = {
    errors.EMPTY_KEY: (Code.INVALID_ARGUMENT, E + "key is not provided"),
    errors.KEY_NOT_FOUND: (Code.INVALID_ARGUMENT, E + "key not found"),
    errors.VALUE_PROVIDED: (Code.INVALID_ARGUMENT, E + "value is provided"),
    errors.LEASE_PROVIDED: (Code.INVALID_ARGUMENT, E + "lease is provided"),
    errors.TOO_MANY_OPS: (Code.INVALID_ARGUMENT, E + "too many operations in txn request"),
    errors.DUPLICATE_KEY: (Code.INVALID_ARGUMENT, E + "duplicate key given in txn request"),
    errors.INVALID_CLIENT_API_VERSION: (Code.INVALID_ARGUMENT, E + "invalid client api version"),
    errors.INVALID_SORT_OPTION: (Code.INVALID_ARGUMENT, E + "invalid sort option"),
    errors.REQUEST_TOO_LARGE: (Code.INVALID_ARGUMENT, E + "request is too large"),
    errors.BAD_MEMBER_URLS: (Code.INVALID_ARGUMENT, E + "given member URLs are invalid"),
    errors.COMPACTED: (Code.OUT_OF_RANGE, E + "mvcc: required revision has been compacted"),
    errors.FUTURE_REVISION: (Code.OUT_OF_RANGE, E + "mvcc: required revision is a future revision"),
    errors.TOO_LARGE_LEASE_TTL: (Code.OUT_OF_RANGE, E + "too large lease TTL"),
    errors.NO_SPACE: (Code.RESOURCE_EXHAUSTED, E + "mvcc: database space exceeded"),
    errors.CORRUPT: (Code.DATA_LOSS, E + "corrupt cluster"),
    errors.LEASE_NOT_FOUND: (Code.NOT_FOUND, E + "requested lease not found"),
    errors.LEASE_EXISTS: (Code.FAILED_PRECONDITION, E + "lease already exists"),
    errors.MEMBER_NOT_FOUND: (Code.NOT_FOUND, E + "member not found"),
    errors.MEMBER_EXISTS: (Code.FAILED_PRECONDITION, E + "member ID already exist"),
    errors.PEER_URL_EXISTS: (Code.FAILED_PRECONDITION, E + "Peer URLs already exists"),
    errors.NOT_ENOUGH_STARTED: (Code.UNKNOWN, E + "re-configuration failed due to not enough started members"),
    errors.LEARNER_ONLY: (Code.FAILED_PRECONDITION, E + "can only promote a learner member"),
    errors.LEARNER_NOT_READY: (
        Code.FAILED_PRECONDITION,
        E + "can only promote a learner member which is in sync with leader",
    ),
    errors.TOO_MANY_LEARNERS: (Code.FAILED_PRECONDITION, E + "too many learner members in cluster"),
    errors.NOT_LEADER: (Code.FAILED_PRECONDITION, E + "not leader"),
    errors.ROOT_USER_NOT_FOUND: (Code.FAILED_PRECONDITION, E + "root user does not exist"),
    errors.ROOT_ROLE_NOT_FOUND: (Code.FAILED_PRECONDITION, E + "root user does not have root role"),
    errors.USER_EXISTS: (Code.FAILED_PRECONDITION, E + "user name already exists"),
    errors.USER_EMPTY: (Code.INVALID_ARGUMENT, E + "user name is empty"),
    errors.USER_NOT_FOUND: (Code.FAILED_PRECONDITION, E + "user name not found"),
    errors.ROLE_EXISTS: (Code.FAILED_PRECONDITION, E + "role name already exists"),
    errors.ROLE_NOT_FOUND: (Code.FAILED_PRECONDITION, E + "role name not found"),
    errors.ROLE_EMPTY: (Code.INVALID_ARGUMENT, E + "role name is empty"),
    errors.AUTH_FAILED: (Code.INVALID_ARGUMENT, E + "authentication failed, invalid user ID or password"),
    errors.NO_PASSWORD_USER: (Code.UNKNOWN, "auth: authentication failed, password was given for no password user"),
    errors.PASSWORD_TOO_LONG: (Code.UNKNOWN, "bcrypt: password length exceeds 72 bytes"),
    errors.PERMISSION_NOT_GIVEN: (Code.INVALID_ARGUMENT, E + "permission not given"),
    errors.PERMISSION_DENIED: (Code.PERMISSION_DENIED, E + "permission denied"),
    errors.ROLE_NOT_GRANTED: (Code.FAILED_PRECONDITION, E + "role is not granted to the user"),
    errors.PERMISSION_NOT_GRANTED: (Code.FAILED_PRECONDITION, E + "permission is not granted to the role"),
    errors.AUTH_NOT_ENABLED: (Code.FAILED_PRECONDITION, E + "authentication is not enabled"),
    errors.AUTH_OLD_REVISION: (Code.INVALID_ARGUMENT, E + "revision of auth store is old"),
    errors.INVALID_AUTH_MANAGEMENT: (Code.INVALID_ARGUMENT, E + "invalid auth management"),
    errors.INVALID_AUTH_TOKEN: (Code.UNAUTHENTICATED, E + "invalid auth token"),
    errors.TOKEN_VERIFY_ONLY: (Code.UNKNOWN, "auth: token signing attempted with verify-only key"),
    errors.NOT_SUPPORTED_FOR_LEARNER: (Code.FAILED_PRECONDITION, E + "rpc not supported for learner"),
    errors.WRONG_DOWNGRADE_VERSION_FORMAT: (Code.INVALID_ARGUMENT, E + "wrong downgrade target version format"),
    errors.INVALID_DOWNGRADE_TARGET: (Code.INVALID_ARGUMENT, E + "invalid downgrade target version"),
    errors.CLUSTER_VERSION_UNAVAILABLE: (Code.FAILED_PRECONDITION, E + "cluster version not found during downgrade"),
    errors.DOWNGRADE_IN_PROCESS: (Code.FAILED_PRECONDITION, E + "cluster has a downgrade job in progress"),
    errors.NO_INFLIGHT_DOWNGRADE: (Code.FAILED_PRECONDITION, E + "no inflight downgrade job"),
    errors.UNKNOWN_METHOD: (Code.UNKNOWN, E + "unknown method"),
    errors.BAD_LEADER_TRANSFEREE: (Code.FAILED_PRECONDITION, E + "bad leader transferee"),
    errors.TOO_MANY_REQUESTS: (Code.UNKNOWN, E + "too many requests"),
    errors.NO_LEADER: (Code.UNAVAILABLE, E + "no leader"),
    errors.STOPPED: (Code.UNAVAILABLE, E + "server stopped"),
    errors.TIMEOUT: (Code.UNAVAILABLE, E + "request timed out"),
    errors.TIMEOUT_LEADER_FAILURE: (
        Code.UNAVAILABLE,
        E + "request timed out, possibly due to previous leader failure",
    ),
    errors.TIMEOUT_CONNECTION_LOST: (Code.UNAVAILABLE, E + "request timed out, possibly due to connection lost"),
    errors.TIMEOUT_WAIT_APPLIED: (
        Code.UNAVAILABLE,
        E + "request timed out, waiting for the applied index took too long",
    ),
    errors.LEADER_CHANGED: (Code.UNAVAILABLE, E + "leader changed"),
    errors.NOT_PRIMARY: (Code.UNKNOWN, "not a primary lessor"),
    errors.NOT_CONFIRMED: (Code.UNKNOWN, "not a primary lessor"),
    errors.UNHEALTHY: (Code.UNAVAILABLE, E + "unhealthy cluster"),
    errors.TIMEOUT_LEADER_TRANSFER: (Code.UNKNOWN, E + "request timed out, leader transfer took too long"),
    errors.PROPOSAL_DROPPED: (Code.UNKNOWN, "raft proposal dropped"),
    election.NO_LEADER: (Code.UNKNOWN, "election: no leader"),
    election.NOT_LEADER: (Code.UNKNOWN, "election: not leader"),
    election.MISSING_LEADER: (Code.UNKNOWN, '"leader" field must be provided'),
    lock.SESSION_EXPIRED: (Code.UNKNOWN, "mutex: session is expired"),
}


@pytest.mark.parametrize("error", TEXTS, ids=str)
def test_an_error_has_etcds_code_and_text(error: StatusError) -> None:
    assert (error.code, error.message) == TEXTS[error]


def test_every_shared_error_is_in_the_table() -> None:
    shared = {value for module in (errors, election, lock) for value in vars(module).values() if isinstance(value, StatusError)}
    assert shared == TEXTS.keys()
