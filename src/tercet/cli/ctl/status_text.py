"""Texts of RPC errors as etcdctl prints them: etcd's own errors without the code, all others with it."""

from __future__ import annotations

from tercet.errors import Code, StatusError

_GO_CODE_NAMES = {Code.OK: "OK", Code.CANCELLED: "Canceled"}
_LOCAL = frozenset({"context deadline exceeded", "context canceled"})


def status_text(error: StatusError) -> str:
    """The text after `Error: `."""
    is_known = error.message.startswith("etcdserver: ") or error.message in _LOCAL
    return error.message if is_known else full_status(error)


def full_status(error: StatusError) -> str:
    """The text of Go's gRPC library."""
    return f"rpc error: code = {go_code_name(error.code)} desc = {error.message}"


def go_code_name(code: Code) -> str:
    """`OutOfRange`, as Go's gRPC library spells a status code."""
    return _GO_CODE_NAMES.get(code) or code.name.title().replace("_", "")
