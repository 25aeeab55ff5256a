"""One typed call: the client's defaults, the namespace, and errors of `tercet.client.errors`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import EllipsisType

from tercet.client.cluster_channel import AuthenticationError, ClusterChannel
from tercet.client.connector import Unreachable
from tercet.client.errors import Indeterminate, TercetError, Timeout, Unauthenticated, Unavailable, typed
from tercet.client.methods import AnswerT, EncodableT, Method
from tercet.client.retry import Retry
from tercet.errors import NO_LEADER, Code, StatusError
from tercet.rpc import RpcError

Seconds = float | EllipsisType | None
"""A timeout: of the whole call, with all retries. `...` for the client's default, None for no limit."""

_UNKNOWN_OUTCOME = frozenset({Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.CANCELLED, Code.INTERNAL})


@dataclass(frozen=True, slots=True)
class Invoker:
    """Makes the calls of one client."""

    channel: ClusterChannel
    retry: Retry

    async def call(
        self,
        method: Method[EncodableT, AnswerT],
        request: EncodableT,
        *,
        timeout: Seconds = ...,
        retry: Retry | None = None,
        repeatable: bool | None = None,
        wait: bool = False,
    ) -> AnswerT:
        """Raises TercetError. repeatable: whether the request changes nothing, where the method does not tell."""
        is_read = method.is_idempotent if repeatable is None else repeatable
        try:
            return await self.channel.call(method, request, timeout=seconds(timeout), wait=wait)
        except StatusError as error:
            raise failure(error, request, is_read=is_read) from error


def seconds(timeout: Seconds) -> float | None:
    """As ClusterChannel wants it: None for its default."""
    if isinstance(timeout, EllipsisType):
        return None
    return math.inf if timeout is None else timeout


def failure(error: StatusError, request: object, *, is_read: bool) -> TercetError:
    """The exception for a call that failed."""
    if isinstance(error, AuthenticationError):
        return Unauthenticated(error.message, error.code)
    if isinstance(error, Unreachable):
        kind = Timeout if error.code is Code.DEADLINE_EXCEEDED else Unavailable
        return kind(error.reason or error.message, error.code)
    certain = is_read or (isinstance(error, RpcError) and error.unprocessed) or error.message == NO_LEADER.message
    if not certain and error.code in _UNKNOWN_OUTCOME:
        return Indeterminate(error.message, error.code, request)
    return typed(error)
