"""Log entries that only an etcd 3.5.1 proposes: tercet members apply them as etcd does."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from tercet.proto import rpc_pb2
from tests.mixed.mixture import check_same, make_leader
from tests.support.processes import Cluster, Member

_Op = rpc_pb2.RequestOp
_Put = rpc_pb2.PutRequest
_Range = rpc_pb2.RangeRequest
_Alarm = rpc_pb2.AlarmRequest

TXNS = {
    "unknown sort order": _Range(key=b"\0", range_end=b"\0", sort_order=7),  # type: ignore[arg-type]
    "negative sort order": _Range(key=b"\0", range_end=b"\0", sort_order=-1, sort_target=_Range.MOD),  # type: ignore[arg-type]
    "largest limit": _Range(key=b"\0", range_end=b"\0", limit=(1 << 63) - 1, sort_target=_Range.VALUE),
    "smallest limit": _Range(key=b"\0", range_end=b"\0", limit=-(1 << 63)),
}


def txn(member: Member, *ops: rpc_pb2.RequestOp) -> rpc_pb2.TxnResponse:
    return member.client.call("KV/Txn", rpc_pb2.TxnRequest(success=ops), rpc_pb2.TxnResponse, 30)


@pytest.mark.parametrize("leader", ["e1", "t1"])
@pytest.mark.parametrize("name", TXNS)
def test_ranges_in_a_writing_txn(cluster: Cluster, leader: str, name: str) -> None:
    make_leader(cluster, cluster[leader])
    txn(cluster["e1"], _Op(request_put=_Put(key=b"foreign", value=name.encode())), _Op(request_range=TXNS[name]))
    check_same(cluster.members)
    assert cluster["t1"].client.get(b"foreign") == name.encode()


def alarm(member: Member, action: Any, id: int) -> rpc_pb2.AlarmResponse:
    request = _Alarm(action=action, memberID=id, alarm=rpc_pb2.NOSPACE)
    return member.client.call("Maintenance/Alarm", request, rpc_pb2.AlarmResponse, 30)


@pytest.mark.parametrize("asked", ["e1", "t1"])
def test_an_alarm_applies_to_all_members(cluster: Cluster, asked: str) -> None:
    etcd_id = cluster["e1"].client.status().header.member_id
    alarm(cluster[asked], _Alarm.ACTIVATE, etcd_id)
    for member in cluster.members:
        with pytest.raises(grpc.RpcError) as refused:
            member.client.put(b"no", b"space")
        assert refused.value.details() == "etcdserver: mvcc: database space exceeded"
        assert member.client.delete(b"nothing").deleted == 0
    for member in cluster.members:
        assert [one.memberID for one in alarm(member, _Alarm.GET, 0).alarms] == [etcd_id]
    alarm(cluster[asked], _Alarm.DEACTIVATE, etcd_id)
    check_same(cluster.members)
