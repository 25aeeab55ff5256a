"""Counters and durations in /metrics, and log lines, of what a member has done."""

from __future__ import annotations

import json
import re

from tercet.proto import rpc_pb2
from tests.cluster.conftest import Planned
from tests.support.processes import QUICK, Member, wait_until
from tests.support.watching import Stream


def value(page: str, series: str) -> float:
    """-1 for a series that is not there."""
    found = re.search(rf"^{re.escape(series)} (\S+)$", page, re.MULTILINE)
    return float(found[1]) if found is not None else -1


def snapshot(member: Member) -> None:
    method = member.client.channel.unary_stream("/etcdserverpb.Maintenance/Snapshot")
    assert sum(1 for _ in method(b"", timeout=60)) >= 2


def test_what_a_member_does_is_counted_and_logged(plan: Planned) -> None:
    member = plan(["n1"]).start()["n1"]
    client = member.client
    for number in range(20):
        client.put(b"k", b"%d" % number)
    client.compact(11)
    client.hash_kv(0)
    client.call("Maintenance/Hash", rpc_pb2.HashRequest(), rpc_pb2.HashResponse, 10)
    client.defragment_later().result()
    snapshot(member)
    method = client.channel.unary_unary("/etcdserverpb.KV/Range")
    for _ in range(3):
        method(rpc_pb2.RangeRequest(key=b"k").SerializeToString(), metadata=[("client-api-version", "3.7")], timeout=60)

    def page() -> str:
        return member.http("/metrics")[1]

    before = page()
    for series in (
        "etcd_disk_backend_defrag_duration_seconds_count",
        "etcd_disk_backend_snapshot_duration_seconds_count",
        "etcd_mvcc_hash_duration_seconds_count",
        "etcd_mvcc_hash_rev_duration_seconds_count",
        "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds_count",
    ):
        assert value(before, series) == 1, series
    for series in (
        "etcd_disk_wal_write_bytes_total",
        "etcd_disk_wal_write_duration_seconds_count",
        "etcd_debugging_mvcc_db_compaction_last",
        "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds_count",
        'etcd_server_client_requests_total{client_api_version="unknown",type="unary"}',
        'etcd_server_client_requests_total{client_api_version="unknown",type="stream"}',
    ):
        assert value(before, series) > 0, series
    for series, count in (
        ('etcd_server_apply_duration_seconds_count{op="Put",success="true",version="v3"}', 20),
        ('etcd_server_request_duration_seconds_count{success="true",type="Put"}', 20),
        ('etcd_server_request_duration_seconds_count{success="true",type="Range"}', 3),
        ('etcd_server_range_duration_seconds_count{success="true"}', 3),
    ):
        assert value(before, series) == count, series
    assert re.search(r'^etcd_network_known_peers{Local="(.+)",Remote="\1"} 1$', before, re.MULTILINE)
    assert value(before, "etcd_debugging_mvcc_db_compaction_keys_total") == 9
    assert value(before, 'etcd_server_client_requests_total{client_api_version="3.7",type="unary"}') == 3
    wait_until(lambda: "etcd_disk_defrag_inflight 0" in page(), "no defragmentation runs")
    line = json.loads(member.wait_said("finished scheduled compaction"))
    assert (line["compact-revision"], line["number-of-keys-compacted"]) == (11, 9)
    assert line["hash"] == client.hash_kv(11).hash
    assert {"took", "current-db-size-bytes", "current-db-size", "current-db-size-in-use-bytes"} <= line.keys()


def test_snapshots_between_members_are_counted(plan: Planned) -> None:
    cluster = plan(flags=(*QUICK, "--snapshot-count=20", "--snapshot-catchup-entries=5")).start()
    leader = cluster.leader()
    behind, other = cluster.others(leader)
    behind.kill()
    for number in range(100):
        leader.client.put(b"k", b"%d" % number)
    behind.restart()
    behind.wait_said("applied snapshot")
    ids = {one.name: f"{one.ID:x}" for one in behind.client.members()}
    to = ids[behind.name]

    def sender() -> Member | None:
        """A leader that was deposed meanwhile has no more to send."""
        series = f'etcd_network_snapshot_send_success{{To="{to}"}}'
        return next((one for one in (leader, other) if value(one.http("/metrics")[1], series) >= 1), None)

    found = wait_until(sender, "a snapshot is sent")
    assert found is not None
    sent, received, source = found.http("/metrics")[1], behind.http("/metrics")[1], ids[found.name]
    assert value(sent, f'etcd_network_snapshot_send_total_duration_seconds_count{{To="{to}"}}') >= 1
    assert value(sent, f'etcd_network_snapshot_send_inflights_total{{To="{to}"}}') == 0
    assert value(received, f'etcd_network_snapshot_receive_success{{From="{source}"}}') >= 1
    assert value(received, f'etcd_network_snapshot_receive_total_duration_seconds_count{{From="{source}"}}') >= 1
    assert value(received, "etcd_snap_fsync_duration_seconds_count") >= 1
    assert value(received, "etcd_snap_db_fsync_duration_seconds_count") >= 1
    assert value(received, "etcd_snap_db_save_total_duration_seconds_count") >= 1
    assert value(sent, "etcd_snap_db_save_total_duration_seconds_count") == 0


def test_a_compaction_of_the_log_is_logged(plan: Planned) -> None:
    member = plan(["n1"], ["--snapshot-count=20", "--snapshot-catchup-entries=5"]).start()["n1"]
    for number in range(40):
        member.client.put(b"k", b"%d" % number)
    for text in ("triggering snapshot", "saved snapshot to disk", "compacted Raft logs"):
        member.wait_said(f'"msg":"{text}"')  # what tools compare: values are fields


def test_what_is_sent_to_watchers_is_timed(plan: Planned) -> None:
    member = plan(["n1"]).start()["n1"]
    stream = Stream(member.client)
    stream.create(rpc_pb2.WatchCreateRequest(key=b"k"))
    assert stream.next().created
    member.client.put(b"k", b"v")
    assert len(stream.next().events) == 1
    page = member.http("/metrics")[1]
    stream.close()
    for kind in ("control_stream_duration", "watch_stream_duration", "watch_stream_duration_per_event"):
        assert value(page, f"etcd_debugging_server_watch_send_loop_{kind}_seconds_count") == 1, kind
