"""Requests in an encoding that etcd cannot decode: tercet proposes them in canonical form.

Python's protobuf skips what Go's rejects, and an entry that etcd cannot decode crashes every etcd, at each start again.
"""

from __future__ import annotations

import pytest

from tercet.proto import rpc_pb2
from tests.mixed.mixture import check_same, make_leader
from tests.support.processes import Cluster
from tests.support.waiting import scaled

PUT = rpc_pb2.PutRequest(key=b"strict", value=b"reader").SerializeToString()
DELETE = rpc_pb2.DeleteRangeRequest(key=b"strict").SerializeToString()
TXN = rpc_pb2.TxnRequest(success=[rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=b"strict"))]).SerializeToString()
ODD = {
    "a field of another type": b"\x08\x05",
    "groups in groups": b"\x7b" * 20 + b"\x7c" * 20,
    "a number too long": b"\x78" + b"\xff" * 9 + b"\x7f",
}


@pytest.mark.parametrize("leader", ["e1", "t1"])
@pytest.mark.parametrize("name", ODD)
def test_requests_that_etcd_cannot_decode_are_proposed_in_canonical_form(cluster: Cluster, leader: str, name: str) -> None:
    make_leader(cluster, cluster[leader])
    channel = cluster["t1"].client.channel
    for method, body in (("Put", PUT), ("DeleteRange", DELETE), ("Txn", TXN)):
        channel.unary_unary(f"/etcdserverpb.KV/{method}")(body + ODD[name], timeout=scaled(5))
    check_same(cluster.members)
    assert all(member.is_running for member in cluster.members)
