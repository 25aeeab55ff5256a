"""The interface of output formats. A format that cannot print a response fails with etcdctl's exit code 4.

It fails after the request was executed, as in etcdctl.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tercet.cli.ctl.errors import CommandError, Exit
from tercet.proto import rpc_pb2


class Sink(Protocol):
    """A binary output stream."""

    def write(self, data: bytes, /) -> object: ...


@dataclass(frozen=True)
class EndpointHealth:
    """The result of one endpoint's health check, and how long it took."""

    endpoint: str
    health: bool
    took: str
    error: str = ""


@dataclass(frozen=True)
class EndpointStatus:
    endpoint: str
    response: rpc_pb2.StatusResponse


@dataclass(frozen=True)
class EndpointHash:
    endpoint: str
    response: rpc_pb2.HashKVResponse


class Printer:
    """The base of all formats; each overrides what it can print."""

    name = ""

    def __init__(self, out: Sink, err: Sink, is_hex: bool) -> None:
        self._out = out
        self._err = err
        self._is_hex = is_hex

    def line(self, text: str | bytes = b"") -> None:
        self._out.write((text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text) + b"\n")

    def put(self, response: rpc_pb2.PutResponse) -> None:
        raise self._unsupported()

    def get(self, response: rpc_pb2.RangeResponse) -> None:
        raise self._unsupported()

    def delete(self, response: rpc_pb2.DeleteRangeResponse) -> None:
        raise self._unsupported()

    def txn(self, response: rpc_pb2.TxnResponse) -> None:
        raise self._unsupported()

    def member_list(self, response: rpc_pb2.MemberListResponse) -> None:
        raise self._unsupported()

    def endpoint_health(self, results: Sequence[EndpointHealth]) -> None:
        raise self._unsupported()

    def endpoint_status(self, results: Sequence[EndpointStatus]) -> None:
        raise self._unsupported()

    def endpoint_hash(self, results: Sequence[EndpointHash]) -> None:
        raise self._unsupported()

    def alarm(self, response: rpc_pb2.AlarmResponse) -> None:
        raise self._unsupported()

    def move_leader(self, leader: int, target: int, response: rpc_pb2.MoveLeaderResponse) -> None:
        raise self._unsupported()

    def _unsupported(self) -> CommandError:
        return CommandError(Exit.BAD_FEATURE, f"{self.name} not supported as output format")


def by_number(response: rpc_pb2.MemberListResponse) -> list[rpc_pb2.Member]:
    return sorted(response.members, key=lambda member: member.ID)
