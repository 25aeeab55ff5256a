"""The JSON format: one line, with the field names and order of Go's encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.message import Message

from tercet.cli.ctl.output.printer import EndpointHash, EndpointHealth, EndpointStatus, Printer, Shown, by_number
from tercet.gotext.json import Json, dumps, message_json
from tercet.proto import rpc_pb2


class JsonPrinter(Printer):
    name = "json"

    def put(self, response: rpc_pb2.PutResponse) -> None:
        self._message(response)

    def get(self, response: rpc_pb2.RangeResponse) -> None:
        self._message(response)

    def delete(self, response: rpc_pb2.DeleteRangeResponse) -> None:
        self._message(response)

    def txn(self, response: rpc_pb2.TxnResponse) -> None:
        self._message(response)

    def alarm(self, response: rpc_pb2.AlarmResponse) -> None:
        self._message(response)

    def show(self, shown: Shown) -> None:
        self._print(message_json(shown.response) if shown.json is None else shown.json)

    def members(self, shown: Shown) -> None:
        plain = message_json(shown.response)
        self._print(_with_hex_ids(plain) if self._is_hex else plain)

    def watch(self, response: rpc_pb2.WatchResponse) -> None:
        """The fields of Go's client, which are not those of the message."""
        self._print(
            {
                "Header": message_json(response.header),
                "Events": None if response.canceled else [message_json(event) for event in response.events],
                "CompactRevision": response.compact_revision,
                "Canceled": response.canceled,
                "Created": response.created,
                "CancelReason": response.cancel_reason,
            }
        )

    def member_list(self, response: rpc_pb2.MemberListResponse) -> None:
        ordered = rpc_pb2.MemberListResponse(header=response.header, members=by_number(response))
        shown = message_json(ordered)
        self._print(_with_hex_ids(shown) if self._is_hex else shown)

    def endpoint_health(self, results: Sequence[EndpointHealth]) -> None:
        shown: list[Json] = []
        for result in results:
            entry: Json = {"endpoint": result.endpoint, "health": result.health, "took": result.took}
            if result.error:
                entry["error"] = result.error
            shown.append(entry)
        self._print(shown)

    def endpoint_status(self, results: Sequence[EndpointStatus]) -> None:
        self._print_list([{"Endpoint": result.endpoint, "Status": message_json(result.response)} for result in results])

    def endpoint_hash(self, results: Sequence[EndpointHash]) -> None:
        self._print_list([{"Endpoint": result.endpoint, "HashKV": message_json(result.response)} for result in results])

    def _print_list(self, entries: list[Json]) -> None:
        self._print(entries or None)  # Go's slice without elements is null

    def _message(self, message: Message) -> None:
        self._print(message_json(message))

    def _print(self, value: Any) -> None:
        self.line(dumps(value))


def _with_hex_ids(shown: Json) -> Json:
    """`--hex`: IDs as hexadecimal strings, the form that `member remove` takes."""
    header = {key: f"{value:x}" if key in ("cluster_id", "member_id") else value for key, value in shown["header"].items()}
    members = [{**member, "ID": f"{member['ID']:x}"} for member in shown.get("members", [])]
    return {**shown, "header": header, "members": members}
