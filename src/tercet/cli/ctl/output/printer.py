"""The interface of output formats. A format that cannot print a response fails with etcdctl's exit code 4.

It fails after the request was executed, as in etcdctl.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from tercet.cli.ctl.errors import CommandError, Exit

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from tercet.proto import rpc_pb2


class Sink(Protocol):
    """A binary output stream."""

    def write(self, data: bytes, /) -> object: ...


class EndpointHealth(NamedTuple):
    """The result of one endpoint's health check, and how long it took."""

    endpoint: str
    health: bool
    took: str
    error: str = ""


class EndpointStatus(NamedTuple):
    endpoint: str
    response: rpc_pb2.StatusResponse


class EndpointHash(NamedTuple):
    endpoint: str
    response: rpc_pb2.HashKVResponse


Field = tuple[str, str | int]


class Shown(NamedTuple):
    """A response and how the formats show it.

    lines: the simple format. fields: what the fields format prints after the header; None: it cannot print the response.
    json: the JSON form, if it is not that of the message. header_only: protobuf prints the header alone.
    """

    response: Message
    lines: Sequence[str | bytes]
    fields: Sequence[Field] | None = ()
    json: Mapping[str, object] | None = None
    header_only: bool = False

    @property
    def header(self) -> rpc_pb2.ResponseHeader:
        header: rpc_pb2.ResponseHeader = getattr(self.response, "header")  # noqa: B009 - every response message has one
        return header


class Printer:
    """The base of all formats; each overrides what it can print."""

    name = ""
    value_only = False  # get --print-value-only, for the simple format

    def __init__(self, out: Sink, err: Sink, is_hex: bool) -> None:
        self._out = out
        self._err = err
        self._is_hex = is_hex

    def line(self, text: str | bytes = b"") -> None:
        self._out.write((text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text) + b"\n")

    def show(self, shown: Shown) -> None:
        """Print the response of a command that changes something, or lists names."""
        raise self._unsupported()

    def watch(self, response: rpc_pb2.WatchResponse) -> None:
        raise self._unsupported()

    def members(self, shown: Shown) -> None:
        """Print a response with members: `show`, but --hex also changes JSON."""
        self.show(shown)

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

    def _unsupported(self) -> CommandError:
        return CommandError(Exit.BAD_FEATURE, f"{self.name} not supported as output format")


def by_number(response: rpc_pb2.MemberListResponse) -> list[rpc_pb2.Member]:
    return sorted(response.members, key=lambda member: member.ID)
