"""A client's token: given, or got for a user and renewed when the cluster refuses it.

Calls that find the token refused at the same time log in once. Source: etcd client/v3/retry_interceptor.go.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING

from tercet.client import methods
from tercet.errors import AUTH_NOT_ENABLED, AUTH_OLD_REVISION, INVALID_AUTH_TOKEN, USER_EMPTY, Code, ConfigError, StatusError
from tercet.proto import rpc_pb2
from tercet.rpc import Metadata, RpcError

if TYPE_CHECKING:
    from tercet.client.connections import Connection

logger = logging.getLogger("tercet.client")
_REFUSED = frozenset({INVALID_AUTH_TOKEN.message, AUTH_OLD_REVISION.message, USER_EMPTY.message})


class AuthenticationError(StatusError):
    """The user's name or password was refused."""


class Login:
    """Shared by all calls of a client."""

    def __init__(self, user: str, password: str, token: str) -> None:
        """Raises ConfigError for a token that cannot be sent."""
        if not (token.isascii() and token.isprintable()):
            raise ConfigError("the token contains characters that are not printable ASCII")
        self.user = user
        self._password = password
        self._token = token
        self._is_needed = bool(user)
        self._running = asyncio.Lock()

    @property
    def token(self) -> str:
        return self._token

    @property
    def is_due(self) -> bool:
        return self._is_needed and not self._token

    def metadata(self) -> Metadata:
        return [("token", self._token)] if self._token else ()

    def refused(self, error: StatusError, token: str) -> bool:
        """Whether a call that was sent with `token` failed for want of a valid one, and a new one can be had."""
        if not self.user or error.message not in _REFUSED:
            return False
        self._is_needed = True  # authentication has been enabled since
        self.forget(token)
        return True

    def is_overtaken(self, error: StatusError) -> bool:
        """Whether users or roles changed after the member had read who calls: the call was not processed.

        Also without a user, whose name then comes from the certificate. A token that was given stays old for ever.
        """
        return error.message == AUTH_OLD_REVISION.message and (bool(self.user) or not self._token)

    def forget(self, token: str) -> None:
        """Log in again, unless that has happened since `token` was used."""
        if self.user and self._token == token:
            self._token = ""

    def after_fork(self) -> None:
        self._running = asyncio.Lock()

    async def run(self, channel: Connection, deadline: float) -> StatusError | None:
        """Get a token. Returns the server's error if authentication is off. Raises AuthenticationError, RpcError."""
        async with self._running:
            if not self.is_due:
                return None
            request = rpc_pb2.AuthenticateRequest(name=self.user, password=self._password)
            left = None if deadline == math.inf else deadline - asyncio.get_running_loop().time()
            try:
                body = await channel.unary(methods.AUTHENTICATE.path, request.SerializeToString(), timeout=left)
            except RpcError as error:
                if error.message == AUTH_NOT_ENABLED.message:
                    self._is_needed = False
                    return error
                if error.code in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.CANCELLED):
                    raise
                raise AuthenticationError(error.code, error.message) from error
            self._token = methods.AUTHENTICATE.decode(body).token
            logger.debug("logged in as %s", self.user)
            return None
