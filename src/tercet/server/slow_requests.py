"""Log lines about requests that fail to apply or take longer to apply, or to read, than --warning-apply-duration.

    {"msg":"apply request took too long","took":"312ms","expected-duration":"100ms","prefix":"",
     "request":"put:<key:\\"foo\\" value_size:3 >","response":"size:4"}

    {"msg":"failed to apply request","took":"12µs","request":"lease_revoke:<ID: 7>","response":"",
     "error":"etcdserver: requested lease not found"}

Values stay out of the log, as with etcd.

Source: etcd server/etcdserver/txn/util.go (warnOfExpensiveRequest), api/etcdserverpb/raft_internal_stringer.go.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Any, Final

from google.protobuf.message import Message

from tercet.errors import StatusError
from tercet.gotext.duration import format_seconds
from tercet.gotext.strconv import quote
from tercet.log_fields import fields
from tercet.proto import rpc_pb2
from tercet.replica.apply import ApplyTimer
from tercet.replica.proposals import Outcome
from tercet.replica.requests import AppliedRequest

logger = logging.getLogger(__name__)

_CHARACTERS_MAX: Final = 2000
_OPERATIONS_MAX: Final = 32  # described of each list of a Txn
_SECRETS: Final = ("password", "hashedPassword", "simple_token")  # fields of the auth requests


class SlowApplies:
    """Reports the slow applies that `timer` finds in one member, and slow reads. `count` is etcd_server_slow_apply_total."""

    def __init__(self, slow_seconds: float) -> None:
        self.slow_seconds = slow_seconds
        self.timer = ApplyTimer(time.monotonic, slow_seconds, self.report, self.report_failed)
        self.count = 0

    def report(self, request: AppliedRequest, seconds: float, outcome: Outcome) -> None:
        """Never raises: a log line must not stop a member."""
        self.count += 1
        try:
            logger.warning("apply request took too long", extra=fields(self._line(request, seconds, outcome)))
        except Exception:
            logger.exception("cannot describe a request that took too long to apply")

    def report_failed(self, request: AppliedRequest, seconds: float, error: StatusError) -> None:
        """Each member logs it, as each applies the entry. Never raises."""
        if not logger.isEnabledFor(logging.WARNING):
            return
        try:
            shown = _describe_applied(request)
        except Exception:
            logger.exception("cannot describe a request that failed to apply")
            return
        line = {"took": format_seconds(seconds), "request": shown, "response": "", "error": error.message}
        logger.warning("failed to apply request", extra=fields(line))

    def report_read(self, request: rpc_pb2.RangeRequest | rpc_pb2.TxnRequest, seconds: float) -> None:
        """A Range, or a Txn that only reads, took long from its arrival to its answer."""
        self.count += 1
        line = {
            "took": format_seconds(seconds),
            "expected-duration": format_seconds(self.slow_seconds),
            "prefix": "read-only range " if isinstance(request, rpc_pb2.RangeRequest) else "read-only txn ",
            "request": describe(request).strip()[:_CHARACTERS_MAX],
            "response": "",  # it may have been sent by now
        }
        logger.warning("apply request took too long", extra=fields(line))

    def _line(self, request: AppliedRequest, seconds: float, outcome: Outcome) -> dict[str, str]:
        line = {
            "took": format_seconds(seconds),
            "expected-duration": format_seconds(self.timer.slow_seconds),
            "prefix": "",
            "request": _describe_applied(request),
            # An Answer's reads are still to be made, so its size is unknown.
            "response": f"size:{len(outcome)}" if isinstance(outcome, bytes) else "",
        }
        if isinstance(outcome, StatusError):
            line["error"] = outcome.message
        return line


def _describe_applied(request: AppliedRequest) -> str:
    return f"{request.field}:<{describe(request.message)}>"[:_CHARACTERS_MAX]


def describe(message: Any) -> str:
    """A request without its values and its secrets, its end cut off where it is long.

    What a line does not show is not formatted either: a name of a megabyte would take a tenth of a second.
    """
    if isinstance(message, rpc_pb2.PutRequest):
        return f"key:{_quoted(message.key)} value_size:{len(message.value)} "
    if isinstance(message, rpc_pb2.TxnRequest):
        compares = _joined((f"key:{_quoted(each.key)}" for each in message.compare[:_OPERATIONS_MAX]), ", ")
        branches = " ".join(
            f"{name}:<{_joined(map(_describe_op, operations[:_OPERATIONS_MAX]), ', ')}>"
            for name, operations in (("success", message.success), ("failure", message.failure))
            if operations
        )
        return f"compare:<{compares}> {branches}"
    if isinstance(message, Message):
        from google.protobuf import text_format  # imports protobuf's pure-Python half: a tenth of a member's start

        return text_format.MessageToString(_shown_fields(message), as_one_line=True)
    return str(message)


def _quoted(name: bytes) -> str:
    return quote(name[:_CHARACTERS_MAX])


def _joined(texts: Iterable[str], separator: str) -> str:
    """As many of them as a line may show."""
    found: list[str] = []
    size = 0
    for text in texts:
        found.append(text)
        size += len(text)
        if size >= _CHARACTERS_MAX:
            break
    return separator.join(found)


def _shown_fields(message: Message) -> Message:
    """The fields without secrets, shortened where they are long."""
    has_secrets = any(name in message.DESCRIPTOR.fields_by_name for name in _SECRETS)
    if not has_secrets and message.ByteSize() <= _CHARACTERS_MAX:
        return message
    shown = type(message)()
    for field, value in message.ListFields():
        if field.name in _SECRETS:
            continue
        if isinstance(value, Message):
            part = getattr(shown, field.name)
            part.SetInParent()
            part.MergeFrom(_shown_fields(value))
        elif isinstance(value, bytes | str | int | float):
            setattr(shown, field.name, _cut(value))
        else:
            getattr(shown, field.name).extend([_cut(one) for one in value[:_OPERATIONS_MAX]])
    return shown


def _cut(value: Any) -> Any:
    if isinstance(value, bytes | str):
        return value[:_CHARACTERS_MAX]
    return _shown_fields(value) if isinstance(value, Message) else value


def _describe_op(operation: rpc_pb2.RequestOp) -> str:
    kind = operation.WhichOneof("request") or ""
    if kind == "request_txn":
        return "request_txn:<...>"  # it may hold thousands of operations
    return f"{kind}:<{describe(getattr(operation, kind))}>" if kind else ""
