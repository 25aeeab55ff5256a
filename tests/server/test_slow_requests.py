"""Lines and count of slow applies."""

from __future__ import annotations

import pytest

from tercet import errors
from tercet.proto import rpc_pb2
from tercet.replica.requests import AppliedRequest
from tercet.server.slow_requests import SlowApplies, describe


def test_a_slow_apply_is_logged_in_etcds_form_without_the_value(caplog: pytest.LogCaptureFixture) -> None:
    slow = SlowApplies(0.1)
    slow.report(AppliedRequest("put", rpc_pb2.PutRequest(key=b"foo", value=b"secret")), 0.312, b"1234")
    slow.report(AppliedRequest("compaction", rpc_pb2.CompactionRequest(revision=5)), 1.5, errors.COMPACTED)
    first, second = (record.__dict__["fields"] for record in caplog.records)
    assert [record.getMessage() for record in caplog.records] == ["apply request took too long"] * 2
    assert first == {
        "took": "312ms",
        "expected-duration": "100ms",
        "prefix": "",
        "request": 'put:<key:"foo" value_size:6 >',
        "response": "size:4",
    }
    assert second["request"] == "compaction:<revision: 5>"
    assert second["error"] == "etcdserver: mvcc: required revision has been compacted"
    assert slow.count == 2


def test_a_transaction_is_described_by_its_keys() -> None:
    put = rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=b"k", value=b"secret"))
    get = rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=b"r"))
    txn = rpc_pb2.TxnRequest(compare=[rpc_pb2.Compare(key=b"c", value=b"secret")], success=[put, get])
    assert describe(txn) == ('compare:<key:"c"> success:<request_put:<key:"k" value_size:6 >, request_range:<key: "r">>')
