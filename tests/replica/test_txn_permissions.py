"""The permissions of a large Txn are checked in slices, and every operation counts, in whatever branch it stands."""

from __future__ import annotations

import pytest

from tercet.auth import Identity
from tercet.errors import PERMISSION_DENIED, RequestError
from tercet.mvcc import Budget
from tercet.proto import rpc_pb2
from tercet.replica.txn_permissions import TxnPermissions
from tests.replica.test_auth_snapshots import member_with_auth

Op, Txn = rpc_pb2.RequestOp, rpc_pb2.TxnRequest
READ = Op(request_range=rpc_pb2.RangeRequest(key=b"a1"))
LARGE = Txn(
    compare=[rpc_pb2.Compare(key=b"a2")] * 100, success=[Op(request_txn=Txn(success=[READ] * 40, failure=[READ] * 40))] * 40
)
OTHER_KEY = Op(request_range=rpc_pb2.RangeRequest(key=b"x"))
OTHER_RANGE = Op(request_range=rpc_pb2.RangeRequest(key=b"a", range_end=b"c"))
PUT = Op(request_put=rpc_pb2.PutRequest(key=b"a1"))
DELETE = Op(request_delete_range=rpc_pb2.DeleteRangeRequest(key=b"a1"))


def check(user: str, txn: rpc_pb2.TxnRequest) -> int:
    """Returns the number of slices."""
    auth = member_with_auth().replica.auth
    permissions = TxnPermissions(auth, Identity(user, auth.revision), txn)
    slices = 1
    budget = Budget(100)
    while permissions.step(budget):
        assert -10 < budget.left <= 0
        budget = Budget(100)
        slices += 1
    return slices


def test_a_permitted_txn_takes_many_slices() -> None:
    assert check("ann", LARGE) > (100 + 80 * 40) * 4 // 100


@pytest.mark.parametrize("refused", [OTHER_KEY, OTHER_RANGE, PUT, DELETE])
@pytest.mark.parametrize("place", ["success", "failure", "nested"])
def test_one_operation_that_is_not_permitted_refuses_the_txn(refused: rpc_pb2.RequestOp, place: str) -> None:
    txn = Txn()
    txn.CopyFrom(LARGE)
    if place == "nested":
        txn.failure.append(Op(request_txn=Txn(failure=[refused])))
    else:
        getattr(txn, place).append(refused)
    with pytest.raises(RequestError) as caught:
        check("ann", txn)
    assert caught.value is PERMISSION_DENIED
    check("root", txn)


def test_one_comparison_that_is_not_permitted_refuses_the_txn() -> None:
    with pytest.raises(RequestError) as caught:
        check("ann", Txn(compare=[rpc_pb2.Compare(key=b"x")]))
    assert caught.value is PERMISSION_DENIED
