"""The format that shows every field: `"Name" : value`, one per line."""

from __future__ import annotations

from collections.abc import Sequence

from tercet.cli.ctl.output.printer import EndpointHash, EndpointHealth, EndpointStatus, Printer, Shown, by_number
from tercet.cli.ctl.output.rows import boolean
from tercet.gotext.strconv import quote
from tercet.proto import kv_pb2, rpc_pb2
from tercet.proto.alarm_names import alarm_name


class FieldsPrinter(Printer):
    name = "fields"

    def put(self, response: rpc_pb2.PutResponse) -> None:
        self._header(response.header)
        if response.HasField("prev_kv"):
            self._key_value("Prev", response.prev_kv)

    def get(self, response: rpc_pb2.RangeResponse) -> None:
        self._header(response.header)
        for kv in response.kvs:
            self._key_value("", kv)
        self._field("More", boolean(response.more))
        self._field("Count", response.count)

    def delete(self, response: rpc_pb2.DeleteRangeResponse) -> None:
        self._header(response.header)
        self._field("Deleted", response.deleted)
        for kv in response.prev_kvs:
            self._key_value("Prev", kv)

    def txn(self, response: rpc_pb2.TxnResponse) -> None:
        self._header(response.header)
        self._field("Succeeded", boolean(response.succeeded))
        for part in response.responses:
            kind = part.WhichOneof("response")
            if kind == "response_put":
                self.put(part.response_put)
            elif kind == "response_range":
                self.get(part.response_range)
            elif kind == "response_delete_range":
                self.delete(part.response_delete_range)

    def member_list(self, response: rpc_pb2.MemberListResponse) -> None:
        self._header(response.header)
        for member in by_number(response):
            self._field("ID", self._id(member.ID))
            self._text("Name", member.name)
            for url in member.peerURLs:
                self._text("PeerURL", url)
            for url in member.clientURLs:
                self._text("ClientURL", url)
            self._field("IsLearner", boolean(member.isLearner))
            self.line()

    def endpoint_health(self, results: Sequence[EndpointHealth]) -> None:
        for result in results:
            self._text("Endpoint", result.endpoint)
            self._field("Health", boolean(result.health))
            self._field("Took", result.took)
            self._field("Error", result.error)
            self.line()

    def endpoint_status(self, results: Sequence[EndpointStatus]) -> None:
        for result in results:
            status = result.response
            self._header(status.header)
            self._text("Version", status.version)
            self._text("StorageVersion", status.storageVersion)
            self._field("DBSize", status.dbSize)
            self._field("DBSizeInUse", status.dbSizeInUse)
            self._field("DBSizeQuota", status.dbSizeQuota)
            self._field("Leader", status.leader)  # in decimal with --hex too, as etcdctl prints it
            self._field("IsLearner", boolean(status.isLearner))
            self._field("RaftIndex", status.raftIndex)
            self._field("RaftAppliedIndex", status.raftAppliedIndex)
            self._field("Errors", f"[{' '.join(status.errors)}]")
            self._text("Endpoint", result.endpoint)
            self._text("DowngradeTargetVersion", status.downgradeInfo.targetVersion)
            self._field("DowngradeEnabled", boolean(status.downgradeInfo.enabled))
            self.line()

    def endpoint_hash(self, results: Sequence[EndpointHash]) -> None:
        for result in results:
            self._header(result.response.header)
            self._text("Endpoint", result.endpoint)
            self._field("Hash", result.response.hash)
            self._field("HashRevision", result.response.hash_revision)
            self.line()

    def alarm(self, response: rpc_pb2.AlarmResponse) -> None:
        self._header(response.header)
        for alarm in response.alarms:
            self._field("MemberID", self._id(alarm.memberID))
            self._field("AlarmType", alarm_name(alarm.alarm))
            self.line()

    def show(self, shown: Shown) -> None:
        if shown.fields is None:
            raise self._unsupported()
        self._header(shown.header)
        for name, value in shown.fields:
            self._field(name, value)

    def watch(self, response: rpc_pb2.WatchResponse) -> None:
        self._header(response.header)
        for event in response.events:
            self._field("Type", kv_pb2.Event.EventType.Name(event.type))
            if event.HasField("prev_kv"):
                self._key_value("Prev", event.prev_kv)
            self._key_value("", event.kv)

    def _header(self, header: rpc_pb2.ResponseHeader) -> None:
        self._field("ClusterID", self._id(header.cluster_id))
        self._field("MemberID", self._id(header.member_id))
        if header.revision > 0:  # absent in responses of the Cluster service
            self._field("Revision", header.revision)
        self._field("RaftTerm", header.raft_term)

    def _key_value(self, prefix: str, kv: kv_pb2.KeyValue) -> None:
        self._field(f"{prefix}Key", quote(kv.key))
        self._field(f"{prefix}CreateRevision", kv.create_revision)
        self._field(f"{prefix}ModRevision", kv.mod_revision)
        self._field(f"{prefix}Version", kv.version)
        self._field(f"{prefix}Value", quote(kv.value))
        self._field(f"{prefix}Lease", f"{kv.lease:016x}" if self._is_hex else kv.lease)

    def _field(self, name: str, value: str | int) -> None:
        self.line(f'"{name}" : {value}')

    def _text(self, name: str, value: str) -> None:
        self._field(name, quote(value.encode()))

    def _id(self, number: int) -> str:
        return f"{number:x}" if self._is_hex else str(number)
