"""How an RPC's error reads: etcd's own errors by their text alone, all others with their code, as etcdctl prints them."""

from __future__ import annotations

from tercet.errors import Code, StatusError

_GO_CODE_NAMES = {Code.OK: "OK", Code.CANCELLED: "Canceled"}
_LOCAL = frozenset({"context deadline exceeded", "context canceled"})


def status_text(error: StatusError) -> str:
    """What follows `Error: `."""
    is_known = error.message.startswith("etcdserver: ") or error.message in _LOCAL
    return error.message if is_known else full_status(error)


def full_status(error: StatusError) -> str:
    """As Go's gRPC library prints it."""
    return f"rpc error: code = {go_code_name(error.code)} desc = {error.message}"


def go_code_name(code: Code) -> str:
    """`OutOfRange`, as Go's gRPC library spells a status code."""
    return _GO_CODE_NAMES.get(code) or code.name.title().replace("_", "")
