"""Lines and count of slow applies."""

from __future__ import annotations

import pytest
from google.protobuf.message import Message

from tercet import errors
from tercet.mvcc.work import Answer
from tercet.proto import auth_pb2, internal_pb2, rpc_pb2
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


def test_an_answer_whose_reads_are_still_to_be_made_is_logged_without_a_size(caplog: pytest.LogCaptureFixture) -> None:
    SlowApplies(0.1).report(AppliedRequest("txn", rpc_pb2.TxnRequest()), 0.2, Answer())
    assert [record.getMessage() for record in caplog.records] == ["apply request took too long"]
    assert caplog.records[0].__dict__["fields"]["response"] == ""


def test_a_request_that_cannot_be_described_does_not_stop_the_member(caplog: pytest.LogCaptureFixture) -> None:
    class Wrong:
        def __str__(self) -> str:
            raise ValueError

    SlowApplies(0.1).report(AppliedRequest("put", Wrong()), 0.2, b"")
    assert [record.getMessage() for record in caplog.records] == ["cannot describe a request that took too long to apply"]


@pytest.mark.parametrize(
    "message",
    [
        rpc_pb2.AuthUserAddRequest(name="u", password="hidden", hashedPassword="hidden"),
        rpc_pb2.AuthUserChangePasswordRequest(name="u", password="hidden", hashedPassword="hidden"),
        internal_pb2.InternalAuthenticateRequest(name="u", password="hidden", simple_token="hidden"),
    ],
)
def test_passwords_and_tokens_stay_out_of_the_log(message: Message) -> None:
    assert describe(message) == 'name: "u"'


def test_the_description_of_a_large_transaction_is_short() -> None:
    put = rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=b"k"))
    nested = rpc_pb2.RequestOp(request_txn=rpc_pb2.TxnRequest(success=[put] * 10_000))
    assert (
        len(describe(rpc_pb2.TxnRequest(compare=[rpc_pb2.Compare(key=b"c")] * 10_000, success=[put] * 10_000 + [nested])))
        < 4000
    )
    assert describe(rpc_pb2.TxnRequest(success=[nested])) == "compare:<> success:<request_txn:<...>>"


_NAME = b"n" * (1 << 20)


@pytest.mark.parametrize(
    "message",
    [
        rpc_pb2.PutRequest(key=_NAME),
        rpc_pb2.DeleteRangeRequest(key=_NAME, range_end=_NAME),
        rpc_pb2.AuthRoleGrantPermissionRequest(name="r", perm=auth_pb2.Permission(key=_NAME, range_end=_NAME)),
        rpc_pb2.AuthUserAddRequest(name=_NAME.decode(), password="hidden"),
        rpc_pb2.MemberAddRequest(peerURLs=[_NAME.decode()] * 2),
        rpc_pb2.TxnRequest(compare=[rpc_pb2.Compare(key=_NAME)] * 8),
        rpc_pb2.TxnRequest(success=[rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=_NAME))] * 8),
    ],
    ids=lambda message: message.DESCRIPTOR.name,
)
def test_of_long_names_no_more_is_formatted_than_a_line_shows(message: Message) -> None:
    assert 1000 < len(describe(message)) < 10_000
    assert "hidden" not in describe(message)


def test_the_names_of_a_transaction_are_formatted_until_a_line_is_full() -> None:
    put = rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=b"n" * 1000))
    assert describe(rpc_pb2.TxnRequest(success=[put] * 32)).count("request_put") == 2
