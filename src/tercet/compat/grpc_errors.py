"""Errors in the shape of grpcio's: `error.code()`, `error.details()`.

Programs written for etcd3 and aetcd catch `grpc.RpcError` and compare with `grpc.StatusCode`, so both must hold where grpcio is
in use. It is not imported for that: a program that names `grpc` has imported it before the error is raised. Then the error is
an instance of both classes, and its code is a member of grpcio's enum.
"""

from __future__ import annotations

import sys
from enum import Enum
from functools import cache
from typing import Any

from tercet.errors import Code, StatusError


class StatusCode(Enum):
    """The names and values of grpc.StatusCode."""

    OK = (0, "ok")
    CANCELLED = (1, "cancelled")
    UNKNOWN = (2, "unknown")
    INVALID_ARGUMENT = (3, "invalid argument")
    DEADLINE_EXCEEDED = (4, "deadline exceeded")
    NOT_FOUND = (5, "not found")
    ALREADY_EXISTS = (6, "already exists")
    PERMISSION_DENIED = (7, "permission denied")
    RESOURCE_EXHAUSTED = (8, "resource exhausted")
    FAILED_PRECONDITION = (9, "failed precondition")
    ABORTED = (10, "aborted")
    OUT_OF_RANGE = (11, "out of range")
    UNIMPLEMENTED = (12, "unimplemented")
    INTERNAL = (13, "internal")
    UNAVAILABLE = (14, "unavailable")
    DATA_LOSS = (15, "data loss")
    UNAUTHENTICATED = (16, "unauthenticated")


class RpcError(Exception):
    """A call that ended with a status other than OK."""

    def __init__(self, code: Any, details: str) -> None:
        super().__init__(code, details)
        self._code = code
        self._details = details

    def code(self) -> Any:
        """A member of grpc.StatusCode if grpcio is imported, else of StatusCode."""
        return self._code

    def details(self) -> str:
        return self._details

    def initial_metadata(self) -> tuple[()]:
        return ()

    def trailing_metadata(self) -> tuple[()]:
        return ()

    def debug_error_string(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return f"<RPC terminated with: status = {self._code}, details = {self._details!r}>"


def rpc_error(code: Code, details: str) -> RpcError:
    """The error of a call on a channel."""
    grpc = sys.modules.get("grpc")
    base = getattr(grpc, "RpcError", None)
    if base is None:
        return RpcError(StatusCode[code.name], details)
    return _class_for(base)(grpc.StatusCode[code.name], details)  # type: ignore[union-attr]


def status_error(error: RpcError) -> StatusError:
    """The error as our own client raises it."""
    return StatusError(Code[error.code().name], error.details())


@cache
def _class_for(base: type[Exception]) -> type[RpcError]:
    return type("RpcError", (RpcError, base), {"__module__": __name__})


def code_name(error: BaseException) -> str | None:
    """The name of the status of an RpcError, of this module or of grpcio; None for any other exception."""
    base = getattr(sys.modules.get("grpc"), "RpcError", RpcError)
    if not isinstance(error, RpcError | base):
        return None
    return str(error.code().name)
