"""The counters of operations in /metrics: the same requests increase them as in etcd."""

from __future__ import annotations

import re

from tercet.proto import rpc_pb2
from tests.differential.test_edges import txn
from tests.differential.twins import Twins
from tests.support.processes import Member

NAMES = ("etcd_mvcc_put_total", "etcd_mvcc_delete_total", "etcd_mvcc_range_total", "etcd_mvcc_txn_total")
_Put = rpc_pb2.PutRequest
_Range = rpc_pb2.RangeRequest
_Delete = rpc_pb2.DeleteRangeRequest

REQUESTS = (
    _Put(key=b"counted", value=b"1"),
    _Put(key=b"counted", value=b"2", prev_kv=True),
    _Put(key=b"never", ignore_value=True),
    _Range(key=b"counted"),
    _Range(key=b"a", range_end=b"z", count_only=True, serializable=True),
    txn(_Put(key=b"counted/1"), _Put(key=b"counted/2"), _Range(key=b"counted")),
    txn(_Put(key=b"counted/3")),
    txn(_Range(key=b"counted")),
    txn(_Range(key=b"counted"), _Range(key=b"counted/1")),
    txn(_Delete(key=b"counted/1"), _Put(key=b"counted/1x")),
    txn(),
    _Delete(key=b"counted/3", prev_kv=True),
    _Delete(key=b"counted/3", prev_kv=True),
    _Delete(key=b"counted", range_end=b"countee"),
    _Delete(key=b"counted"),
)


def counted(member: Member) -> dict[str, float]:
    _, page = member.http("/metrics")
    return {name: float(value) for name, value in re.findall(r"^(etcd_mvcc_\w+_total) (\S+)$", page, re.M) if name in NAMES}


def test_each_request_is_counted_as_in_etcd(twins: Twins, etcd: Member, tercet: Member) -> None:
    wrong = []
    for request in REQUESTS:
        before = counted(etcd), counted(tercet)
        twins.call(request)
        after = counted(etcd), counted(tercet)
        theirs, ours = ({name: now[name] - then[name] for name in NAMES} for then, now in zip(before, after, strict=True))
        if ours != theirs:
            wrong.append(f"{type(request).__name__} {request}: etcd {theirs}, tercet {ours}")
    assert not wrong, "\n".join(wrong)
