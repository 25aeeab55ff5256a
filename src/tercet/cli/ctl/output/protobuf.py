"""The protobuf format: the encoded response, without a newline."""

from __future__ import annotations

from google.protobuf.message import Message

from tercet.cli.ctl.output.printer import Printer
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

    def move_leader(self, leader: int, target: int, response: rpc_pb2.MoveLeaderResponse) -> None:
        self._message(response)

    def _message(self, message: Message) -> None:
        self._out.write(message.SerializeToString(deterministic=True))
