"""The protobuf format: the encoded response, without a newline."""

from __future__ import annotations

from google.protobuf.message import Message

from tercet.cli.ctl.output.printer import Printer, Shown
from tercet.proto import rpc_pb2


class ProtobufPrinter(Printer):
    name = "protobuf"

    def put(self, response: rpc_pb2.PutResponse) -> None:
        self._message(response)

    def get(self, response: rpc_pb2.RangeResponse) -> None:
        self._message(response)

    def delete(self, response: rpc_pb2.DeleteRangeResponse) -> None:
        self._message(response)

    def txn(self, response: rpc_pb2.TxnResponse) -> None:
        self._message(response)

    def member_list(self, response: rpc_pb2.MemberListResponse) -> None:
        self._message(response)

    def alarm(self, response: rpc_pb2.AlarmResponse) -> None:
        self._message(response)

    def show(self, shown: Shown) -> None:
        self._message(shown.header if shown.header_only else shown.response)

    def watch(self, response: rpc_pb2.WatchResponse) -> None:
        """Only these fields: Go's client drops the others before etcdctl sees them."""
        kept = rpc_pb2.WatchResponse(
            header=response.header,
            events=response.events,
            compact_revision=response.compact_revision,
            canceled=response.canceled,
            created=response.created,
        )
        self._message(kept)

    def _message(self, message: Message) -> None:
        self._out.write(message.SerializeToString(deterministic=True))
