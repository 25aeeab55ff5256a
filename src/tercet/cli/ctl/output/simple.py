"""The default format, for people and pipes: raw keys and values, one per line."""

from __future__ import annotations

from collections.abc import Sequence

from tercet.cli.ctl.output.printer import EndpointHash, EndpointHealth, EndpointStatus, Printer, Shown
from tercet.cli.ctl.output.rows import hash_rows, member_rows, status_rows
from tercet.gotext.strconv import hex_bytes
from tercet.proto import kv_pb2, rpc_pb2
from tercet.proto.alarm_names import alarm_name


class SimplePrinter(Printer):
    name = "simple"

    def put(self, response: rpc_pb2.PutResponse) -> None:
        self.line("OK")
        if response.HasField("prev_kv"):
            self._key_value(response.prev_kv)

    def get(self, response: rpc_pb2.RangeResponse) -> None:
        for kv in response.kvs:
            self._key_value(kv)

    def delete(self, response: rpc_pb2.DeleteRangeResponse) -> None:
        self.line(str(response.deleted))
        for kv in response.prev_kvs:
            self._key_value(kv)

    def txn(self, response: rpc_pb2.TxnResponse) -> None:
        self.line("SUCCESS" if response.succeeded else "FAILURE")
        for part in response.responses:
            self.line()
            kind = part.WhichOneof("response")
            if kind == "response_put":
                self.put(part.response_put)
            elif kind == "response_range":
                self.get(part.response_range)
            elif kind == "response_delete_range":
                self.delete(part.response_delete_range)

    def member_list(self, response: rpc_pb2.MemberListResponse) -> None:
        for row in member_rows(response):
            self.line(", ".join(row))

    def endpoint_health(self, results: Sequence[EndpointHealth]) -> None:
        """Healthy endpoints on stdout, unhealthy ones on stderr, as in etcdctl."""
        for result in results:
            if result.health:
                self.line(f"{result.endpoint} is healthy: successfully committed proposal: took = {result.took}")
            else:
                text = f"{result.endpoint} is unhealthy: failed to commit proposal: {result.error}\n"
                self._err.write(text.encode())

    def endpoint_status(self, results: Sequence[EndpointStatus]) -> None:
        for row in status_rows(results):
            self.line(", ".join(row))

    def endpoint_hash(self, results: Sequence[EndpointHash]) -> None:
        for row in hash_rows(results):
            self.line(", ".join(row))

    def alarm(self, response: rpc_pb2.AlarmResponse) -> None:
        for alarm in response.alarms:
            parts = []
            if alarm.memberID:
                parts.append(f"memberID:{alarm.memberID}")
            if alarm.alarm:
                parts.append(f"alarm:{alarm_name(alarm.alarm)}")
            self.line(" ".join(parts))

    def show(self, shown: Shown) -> None:
        for line in shown.lines:
            self.line(line)

    def watch(self, response: rpc_pb2.WatchResponse) -> None:
        for event in response.events:
            self.line(kv_pb2.Event.EventType.Name(event.type))
            if event.HasField("prev_kv"):
                self._key_value(event.prev_kv)
            self._key_value(event.kv)

    def _key_value(self, kv: kv_pb2.KeyValue) -> None:
        if not self.value_only:
            self.line(hex_bytes(kv.key) if self._is_hex else kv.key)
        self.line(hex_bytes(kv.value) if self._is_hex else kv.value)
