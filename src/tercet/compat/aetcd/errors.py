"""grpcio's names for errors, as aetcd exports them from `aetcd.rpc`."""

from __future__ import annotations

from typing import Any

from tercet.compat.grpc_errors import RpcError, StatusCode

__all__ = ["AioRpcError", "RpcError", "StatusCode"]


class AioRpcError(RpcError):
    """grpc.aio.AioRpcError's constructor, for programs that make errors of their own, such as fakes in tests."""

    def __init__(
        self,
        code: Any,
        initial_metadata: Any = (),
        trailing_metadata: Any = (),
        details: str = "",
        debug_error_string: str = "",
    ) -> None:
        super().__init__(code, details)
        self._metadata = initial_metadata, trailing_metadata
        self._debug_error_string = debug_error_string

    def initial_metadata(self) -> Any:
        return self._metadata[0]

    def trailing_metadata(self) -> Any:
        return self._metadata[1]

    def debug_error_string(self) -> str:
        return self._debug_error_string
