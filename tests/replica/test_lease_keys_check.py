"""The permission to touch all keys of leases, whatever the number of keys and leases, is checked in slices."""

from __future__ import annotations

import pytest

from tercet import errors
from tercet.auth import AuthStore
from tercet.lease import Lease
from tercet.mvcc import Budget
from tercet.proto import auth_pb2, rpc_pb2
from tercet.replica.lease_keys_check import LeaseKeysCheck
from tests.mvcc.dict_backend import DictBackend

WORK = 100


def store_of_ann() -> AuthStore:
    """Ann may write keys from a to b, and read none."""
    auth = AuthStore(DictBackend())
    for name in ("root", "ann"):
        auth.add_role(name)
        auth.add_user(rpc_pb2.AuthUserAddRequest(name=name, options=auth_pb2.UserAddOptions(no_password=True)))
        auth.grant_role(name, name)
    permission = auth_pb2.Permission(permType=auth_pb2.Permission.WRITE, key=b"a", range_end=b"b")
    auth.grant_permission(rpc_pb2.AuthRoleGrantPermissionRequest(name="ann", perm=permission))
    auth.enable()
    return auth


def lease_with(lease_id: int, *keys: bytes) -> Lease:
    lease = Lease(lease_id, 60)
    for key in keys:
        lease.attach(key)
    return lease


def check_of(auth: AuthStore, leases: list[Lease], *, to_write: bool = True) -> LeaseKeysCheck:
    return LeaseKeysCheck(auth, auth.identity_of("ann"), leases, to_write=to_write)


def slices_of(check: LeaseKeysCheck) -> int:
    for slices in range(1, 10_000):
        budget = Budget(WORK)
        more = check.step(budget)
        assert budget.left >= -WORK
        if not more:
            return slices
    raise AssertionError("the check does not end")


def test_the_keys_of_one_lease_are_checked_in_slices() -> None:
    auth = store_of_ann()
    keys = [b"a%06d" % number for number in range(20 * WORK)]
    assert slices_of(check_of(auth, [lease_with(7, *keys)])) >= 10
    with pytest.raises(errors.RequestError, match="permission denied"):
        slices_of(check_of(auth, [lease_with(7, *keys, b"b")]))
    with pytest.raises(errors.RequestError, match="permission denied"):
        slices_of(check_of(auth, [lease_with(7, *keys)], to_write=False))


def test_many_leases_are_checked_in_slices() -> None:
    auth = store_of_ann()
    leases = [lease_with(number, b"a%06d" % number) for number in range(20 * WORK)]
    assert slices_of(check_of(auth, list(leases))) >= 10
    assert slices_of(check_of(auth, [lease_with(number) for number in range(20 * WORK)])) >= 10
    with pytest.raises(errors.RequestError, match="permission denied"):
        slices_of(check_of(auth, [lease_with(0, b"b"), *leases]))
