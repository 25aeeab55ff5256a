"""The table format: members and endpoints only."""

from __future__ import annotations

from collections.abc import Sequence

from tercet.cli.ctl.output.printer import EndpointHash, EndpointHealth, EndpointStatus, Printer
from tercet.cli.ctl.output.rows import (
    HASH_HEADER,
    HEALTH_HEADER,
    MEMBER_HEADER,
    STATUS_HEADER,
    hash_rows,
    health_rows,
    member_rows,
    status_rows,
)
from tercet.cli.ctl.table import draw
from tercet.proto import rpc_pb2


class TablePrinter(Printer):
    name = "table"

    def member_list(self, response: rpc_pb2.MemberListResponse) -> None:
        self._draw(MEMBER_HEADER, member_rows(response))

    def endpoint_health(self, results: Sequence[EndpointHealth]) -> None:
        self._draw(HEALTH_HEADER, health_rows(results))

    def endpoint_status(self, results: Sequence[EndpointStatus]) -> None:
        self._draw(STATUS_HEADER, status_rows(results))

    def endpoint_hash(self, results: Sequence[EndpointHash]) -> None:
        self._draw(HASH_HEADER, hash_rows(results))

    def _draw(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self._out.write(draw(header, rows).encode())
