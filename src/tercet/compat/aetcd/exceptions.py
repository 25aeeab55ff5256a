"""The exceptions of aetcd. A status without one of its own is a ClientError with the server's text."""

from __future__ import annotations

from typing import NoReturn

from tercet.compat.grpc_errors import RpcError, code_name


class ClientError(Exception):
    """Base of the exceptions below."""


class ConnectionFailedError(ClientError):
    """UNAVAILABLE: no connection, or the member cannot serve the request now."""


class ConnectionTimeoutError(ClientError):
    """DEADLINE_EXCEEDED."""


class InternalError(ClientError):
    """INTERNAL."""


class InvalidArgumentError(ClientError):
    """INVALID_ARGUMENT."""


class UnauthenticatedError(ClientError):
    """UNAUTHENTICATED."""


class PreconditionFailedError(ClientError):
    """FAILED_PRECONDITION."""


class DuplicateLeaseError(ClientError):
    """The ID of a new lease is that of an existing one."""


class RevisionCompactedError(ClientError):
    """A watch starts at, or has fallen back to, a compacted revision. `compacted_revision`: the oldest that can be watched."""

    def __init__(self, compacted_revision: int) -> None:
        self.compacted_revision = compacted_revision
        super().__init__(f"revision was already compacted below {compacted_revision!r}")


class WatchTimeoutError(ClientError):
    """A watch was not created in time, or `watch_once` saw no event in time."""


_EXCEPTIONS: dict[str, type[ClientError]] = {
    "DEADLINE_EXCEEDED": ConnectionTimeoutError,
    "FAILED_PRECONDITION": PreconditionFailedError,
    "INTERNAL": InternalError,
    "INVALID_ARGUMENT": InvalidArgumentError,
    "UNAUTHENTICATED": UnauthenticatedError,
    "UNAVAILABLE": ConnectionFailedError,
}


def _handle_exception(error: Exception) -> NoReturn:
    """Raise the client's exception for any error."""
    if isinstance(error, ClientError):
        raise error
    code = code_name(error)
    if code is None:
        raise ClientError(error) from error
    details = error.details() if isinstance(error, RpcError) or hasattr(error, "details") else ""
    if code == "FAILED_PRECONDITION" and "lease already exists" in details:
        raise DuplicateLeaseError from error
    raise _EXCEPTIONS.get(code, ClientError)(details) from error
