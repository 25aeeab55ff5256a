"""When a failed call is repeated.

A call that reads is repeated when the connection breaks or a member answers UNAVAILABLE. A write is repeated only if it
certainly was not processed: no connection, a stream that the server refused, or one above the last that its GOAWAY names,
or users and roles that changed under it.
All attempts share the deadline of the call. There is no pause until a quorum of endpoints has failed.
Source: etcd client/v3/retry.go and retry_interceptor.go. Departs in: a stream that was not processed is repeated too;
pauses grow.
"""

from __future__ import annotations

import random
from enum import Enum

from tercet.errors import NO_LEADER, NOT_SUPPORTED_FOR_LEARNER, PROPOSAL_DROPPED, TOO_MANY_REQUESTS, Code
from tercet.rpc import RpcError

_PAUSE_SECONDS = 0.025
_PAUSE_SECONDS_MAX = 1.0
_UNKNOWN_OUTCOME = frozenset({Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.CANCELLED, Code.INTERNAL})
_NOT_BEGUN = frozenset({NO_LEADER.message, TOO_MANY_REQUESTS.message, PROPOSAL_DROPPED.message})
"""Answers of a member that has not proposed the request."""


class Retry(Enum):
    """A policy, of a client or of one call.

    OFF: no call is repeated. SAFE: reads are, and writes that were certainly not processed. ALWAYS: writes too, which may then
    happen twice; for writes that can be repeated, such as a put of the same value.
    """

    OFF = "off"
    SAFE = "safe"
    ALWAYS = "always"


class Attempts:
    """The attempts of one call, and what is known of their outcome.

    is_repeatable: a second attempt does no harm. is_unknown: an attempt may have been processed without an answer.
    """

    __slots__ = ("_policy", "failures", "has_renewed_token", "is_repeatable", "is_unknown")

    def __init__(self, policy: Retry = Retry.SAFE, *, is_repeatable: bool) -> None:
        self._policy = policy
        self.is_repeatable = is_repeatable
        self.is_unknown = False
        self.failures = 0
        self.has_renewed_token = False

    def pause_after(self, error: RpcError, endpoints: int, *, is_overtaken: bool = False) -> float | None:
        """Note a failed attempt. Returns the seconds to wait before the next one, None if there must be none.

        is_overtaken: users or roles changed under the call, which was not processed for that.
        """
        if not error.unprocessed and error.code in _UNKNOWN_OUTCOME and error.message not in _NOT_BEGUN:
            self.is_unknown = True
        if not self._may_repeat(error, endpoints, is_overtaken):
            return None
        self.failures += 1
        rounds, rest = divmod(self.failures, endpoints // 2 + 1)
        if rest:
            return 0.0
        return min(_PAUSE_SECONDS * 2.0 ** (rounds - 1), _PAUSE_SECONDS_MAX) * random.uniform(0.9, 1.1)

    def _may_repeat(self, error: RpcError, endpoints: int, is_overtaken: bool) -> bool:
        if self._policy is Retry.OFF:
            return False
        if is_overtaken:
            return True
        if is_learner(error):
            return endpoints > 1
        if error.code is not Code.UNAVAILABLE:
            return False
        return error.unprocessed or self.is_repeatable or self._policy is Retry.ALWAYS


def is_learner(error: RpcError) -> bool:
    """Whether another member would serve the request, since this one is a learner."""
    return error.message == NOT_SUPPORTED_FOR_LEARNER.message
