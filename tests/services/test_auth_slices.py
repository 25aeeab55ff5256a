"""Users and roles in great numbers: what is checked, listed and deleted takes slices, and gives what it gives for few."""

from __future__ import annotations

import asyncio
from typing import cast

from tercet import errors
from tercet.auth import AuthStore
from tercet.errors import RequestError
from tercet.intake import intake_of_running_loop
from tercet.mvcc import Apply, Budget
from tercet.proto import auth_pb2, rpc_pb2
from tercet.replica.requests import AppliedRequest
from tercet.replica.txn_permissions import TxnPermissions
from tercet.rpc import Peer, UnaryCall
from tests.services.users import READWRITE, Delete, Put, Range, Txn, Users, op, with_users
from tests.support.fakes import uses_fakes

MANY = 2000
EMPTY = (b"k%05d" % (MANY - 1), b"k00000")  # a range without keys: its end is before its key


def grant_many(auth: AuthStore, role: str) -> None:
    """Every second one for a key, the others for a range: what hides what depends on the form of etcd's tree."""
    permissions = [
        auth_pb2.Permission(permType=READWRITE, key=b"k%05d" % number, range_end=b"" if number % 2 else b"k%05dx" % number)
        for number in range(MANY)
    ]
    auth.put_role(auth_pb2.Role(name=role.encode(), keyPermission=permissions))
    auth.raise_revision()


def slices_of(apply: bytes | Apply, work: int) -> tuple[int, RequestError | None]:
    """How many slices of this much work it takes, and what it raises."""
    assert isinstance(apply, Apply)
    apply.is_awaited = True
    slices = 1
    try:
        while apply.step(Budget(work)):
            slices += 1
    except RequestError as error:
        return slices, error
    return slices, None


class ReadCall:
    """What a read asks of its call."""

    def __init__(self, token: str) -> None:
        self.token = token.encode()
        self.headers = ((b"token", self.token),)
        self.peer = Peer("here", None)
        self.failures: list[BaseException] = []

    def header(self, name: str) -> bytes | None:
        return None

    def fail_with(self, error: BaseException) -> None:
        self.failures.append(error)


async def add_ann(users: Users) -> None:
    await users.add("ann")
    grant_many(users.member.replica.auth, "ann")
    await users.log_in("ann")


def test_a_range_without_keys_is_checked_in_slices_of_its_own() -> None:
    async def test(users: Users) -> None:
        await add_ann(users)
        member = users.member
        auth = member.replica.auth
        before = member.scheduler.slices
        read = await users.outcome("KV/Range", Range(key=EMPTY[0], range_end=EMPTY[1]), "ann")
        assert member.scheduler.slices - before >= 3 * MANY // 500
        is_covered = auth._permissions["ann"].readable.covers(*EMPTY)
        assert read == ("" if is_covered else errors.PERMISSION_DENIED.message)

    with_users(test)


def test_a_write_of_a_range_without_keys_is_checked_in_slices_when_it_is_applied() -> None:
    async def test(users: Users) -> None:
        await add_ann(users)
        member = users.member
        auth, handlers = member.replica.auth, member.replica.state_machine.handlers
        delete = Delete(key=EMPTY[0], range_end=EMPTY[1], prev_kv=True)
        txn = Txn(success=[op(delete)])
        for field, message in (("delete_range", delete), ("txn", txn)):
            auth.raise_revision()  # what was made before is forgotten
            request = AppliedRequest(field, message, auth.identity_of("ann"))
            slices, error = slices_of(handlers[field](request), 500)
            assert slices >= 3 * MANY // 500
            is_covered = auth._permissions["ann"].writable.covers(*EMPTY)
            assert error is (None if is_covered else errors.PERMISSION_DENIED)

    with_users(test)


@uses_fakes
def test_the_search_of_many_roles_counts_as_work_of_a_serializable_read() -> None:
    async def test(users: Users) -> None:
        await users.add("ann")
        auth = users.member.replica.auth
        for number in range(640):
            auth.put_role(auth_pb2.Role(name=b"%d" % number))
            auth.grant_role("ann", f"{number}")
        token = await users.log_in("ann")
        intake = intake_of_running_loop()
        await asyncio.sleep(0.01)
        before = intake.left
        call = ReadCall(token)
        body = Range(key=b"x", serializable=True).SerializeToString()
        users.member.methods[b"/etcdserverpb.KV/Range"].call(cast(UnaryCall, call), body)
        assert call.failures == [errors.PERMISSION_DENIED]
        assert before - intake.left == 640 // 16 // 8

    with_users(test)


def test_many_and_large_names_are_listed_in_order() -> None:
    async def test(users: Users) -> None:
        auth = users.member.replica.auth
        names = {"root", *(f"u{number}" for number in range(1000)), *(letter * 20_000 for letter in "abc")}
        for name in names - {"root"}:
            auth.put_user(auth_pb2.User(name=name.encode()))
            auth.put_role(auth_pb2.Role(name=name.encode()))
        before = users.member.scheduler.slices
        answer = await users.auth("UserList")
        assert list(answer.users) == sorted(names)
        assert answer.header.member_id
        assert users.member.scheduler.slices - before > 1
        assert list((await users.auth("RoleList")).roles) == sorted(names)

    with_users(test)


def test_a_role_is_removed_from_many_users_in_slices() -> None:
    async def test(users: Users) -> None:
        member = users.member
        auth = member.replica.auth
        auth.put_role(auth_pb2.Role(name=b"reader"))
        for number in range(1000):
            auth.put_user(auth_pb2.User(name=b"u%d" % number, roles=["other", "reader"]))
        request = AppliedRequest("auth_role_delete", rpc_pb2.AuthRoleDeleteRequest(role="reader"), auth.identity_of("root"))
        slices, error = slices_of(member.replica.state_machine.handlers["auth_role_delete"](request), 500)
        assert error is None
        assert slices > 1
        assert {tuple(user.roles) for name, user in auth.users.items() if name.startswith("u")} == {("other",)}
        restarted = AuthStore(member.replica.state_machine.backend)
        assert restarted.users == auth.users
        assert restarted.user_names.all() == auth.user_names.all()

    with_users(test)


def test_users_with_large_records_are_changed_in_turns_of_their_own() -> None:
    """A user whose roles have long names: thousands of changes of it took one turn, 20 ms each."""

    async def test(users: Users) -> None:
        auth, handlers = users.member.replica.auth, users.member.replica.state_machine.handlers
        names = [f"{number}" + "r" * 1_000_000 for number in range(3)]
        for name in names:
            auth.add_role(name)
        for number in range(5):
            auth.add_user(rpc_pb2.AuthUserAddRequest(name=f"u{number}", options={"no_password": True}))
            for name in names[1:]:
                auth.grant_role(f"u{number}", name)
        for field, message in (
            ("auth_user_grant_role", rpc_pb2.AuthUserGrantRoleRequest(user="u0", role=names[0])),
            ("auth_user_revoke_role", rpc_pb2.AuthUserRevokeRoleRequest(name="u0", role=names[1])),
            ("auth_user_change_password", rpc_pb2.AuthUserChangePasswordRequest(name="u0")),
        ):
            apply = handlers[field](AppliedRequest(field, message, auth.identity_of("root")))
            assert isinstance(apply, Apply)
            budget = Budget(1000)
            assert not apply.step(budget)
            assert budget.left < 1000 - 1500, "a unit for each KiB"
        assert auth.roles_of("u0") == [names[0], names[2]]
        deletion = AppliedRequest("auth_role_delete", rpc_pb2.AuthRoleDeleteRequest(role=names[2]), auth.identity_of("root"))
        slices, error = slices_of(handlers["auth_role_delete"](deletion), 500)
        assert (slices >= 5, error) == (True, None)
        assert [auth.roles_of(f"u{number}") for number in range(5)] == [[names[0]], *[[names[1]]] * 4]

    with_users(test)


def test_puts_of_a_user_with_many_roles_take_several_turns() -> None:
    """Each key that no check has found yet asks all roles: 1,000 such puts took 90 ms of a turn."""

    async def test(users: Users) -> None:
        await users.add("ann")
        replica, auth = users.member.replica, users.member.replica.auth
        names = [b"r%04d" % number for number in range(1000)]
        for name in names:
            auth.put_role(auth_pb2.Role(name=name, keyPermission=[auth_pb2.Permission(permType=READWRITE, key=name)]))
        auth.put_user(auth_pb2.User(name=b"ann", password=auth.password_of("ann"), roles=names))
        auth.raise_revision()
        await users.log_in("ann")

        identity = auth.identity_of("ann")
        txn = Txn(success=[op(Put(key=name)) for name in names[:100]])
        permissions = TxnPermissions(auth, identity, txn)
        slices = 1
        while permissions.step(Budget(500)):
            slices += 1
        assert slices >= 10

        steps = replica.apply_steps
        puts = [users.call("KV/Put", Put(key=name), "ann") for name in names[100:500]]
        await asyncio.gather(*puts)
        assert replica.apply_steps - steps >= 4

    with_users(test)
