"""One typed call: the client's defaults, the namespace, and errors of `tercet.client.errors`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import EllipsisType

from tercet.client.cluster_channel import ClusterChannel
from tercet.client.connector import Unreachable
from tercet.client.errors import Indeterminate, TercetError, Timeout, Unauthenticated, Unavailable, typed
from tercet.client.login import AuthenticationError
from tercet.client.methods import AnswerT, EncodableT, Method
from tercet.client.retry import Attempts, Retry
from tercet.errors import Code, StatusError

Seconds = float | EllipsisType | None
"""A timeout: of the whole call, with all retries. `...` for the client's default, None for no limit."""


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
        is_read: bool | None = None,
        attempts: Attempts | None = None,
        wait: bool = False,
    ) -> AnswerT:
        """Raises TercetError.

        is_read: the request changes nothing, and may be repeated; None: as its method says. attempts: when to repeat it,
        instead of `retry`.
        """
        if retry is not None and not isinstance(retry, Retry):
            raise TypeError(f"retry is one of {', '.join(map(str, Retry))}, not {retry!r}")
        if is_read is None:
            is_read = method.is_idempotent
        if attempts is None:
            attempts = Attempts(retry or self.retry, is_repeatable=is_read)
        try:
            return await self.channel.call(method, request, timeout=seconds(timeout), wait=wait, attempts=attempts)
        except StatusError as error:
            if attempts.is_unknown and not is_read:
                raise Indeterminate(error.message, error.code, request) from None  # it says all that the other knew
            raise failure(error) from None


def seconds(timeout: Seconds) -> float | None:
    """As ClusterChannel wants it: None for its default."""
    if isinstance(timeout, EllipsisType):
        return None
    return math.inf if timeout is None else timeout


def failure(error: StatusError) -> TercetError:
    """The exception for a call that failed and changed nothing."""
    if isinstance(error, AuthenticationError):
        return Unauthenticated(error.message, error.code)
    if isinstance(error, Unreachable):
        kind = Timeout if error.code is Code.DEADLINE_EXCEEDED else Unavailable
        why, endpoint = error.reason or error.message, error.endpoint.text
        return kind(why if endpoint in why else f"{endpoint}: {why}", error.code)
    return typed(error)
