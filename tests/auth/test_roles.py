"""Roles with many permissions, and many users with the same roles: what a change or the first check after it costs."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from tercet import errors
from tercet.auth import AuthStore, Identity
from tercet.auth.empty_ranges import Trees
from tercet.auth.permissions import Permissions, RoleKeys
from tercet.proto import auth_pb2, rpc_pb2
from tests.mvcc.dict_backend import DictBackend

KINDS = (auth_pb2.Permission.READ, auth_pb2.Permission.WRITE, auth_pb2.Permission.READWRITE)


def grant(auth: AuthStore, role: str, key: bytes, end: bytes = b"", kind: auth_pb2.Permission.Type = KINDS[2]) -> None:
    permission = auth_pb2.Permission(permType=kind, key=key, range_end=end)
    auth.grant_permission(rpc_pb2.AuthRoleGrantPermissionRequest(name=role, perm=permission))


def revoke(auth: AuthStore, role: str, key: bytes, end: bytes = b"") -> None:
    auth.revoke_permission(rpc_pb2.AuthRoleRevokePermissionRequest(role=role, key=key, range_end=end))


def add_user(auth: AuthStore, name: str, *roles: str) -> None:
    auth.add_user(rpc_pb2.AuthUserAddRequest(name=name, options=auth_pb2.UserAddOptions(no_password=True)))
    for role in roles:
        auth.grant_role(name, role)


def store_with_users() -> AuthStore:
    auth = AuthStore(DictBackend())
    for role in ("root", "reader", "other"):
        auth.add_role(role)
    grant(auth, "reader", b"a")
    add_user(auth, "root", "root")
    for name in ("ann", "bob"):
        add_user(auth, name, "reader")
    auth.enable()
    return auth


def is_permitted(auth: AuthStore, name: str, key: bytes) -> bool:
    try:
        auth.check_read(auth.identity_of(name), key, b"")
    except errors.RequestError:
        return False
    return True


def test_users_of_the_same_roles_share_what_is_made_of_them() -> None:
    auth = store_with_users()
    assert is_permitted(auth, "ann", b"a")
    made = auth._permissions["ann"]
    assert is_permitted(auth, "bob", b"a")
    assert auth._permissions["bob"] is made
    add_user(auth, "eve", "other")
    grant(auth, "other", b"b")
    assert is_permitted(auth, "ann", b"a")
    assert is_permitted(auth, "eve", b"b")
    grant(auth, "reader", b"b")
    assert is_permitted(auth, "ann", b"b")
    revoke(auth, "reader", b"a")
    assert not is_permitted(auth, "bob", b"a")
    auth.grant_role("ann", "other")
    assert is_permitted(auth, "ann", b"b")
    for name in auth.delete_role("reader"):
        auth.remove_role_of(name, "reader")
    assert not is_permitted(auth, "bob", b"b")
    auth.add_role("reader")
    auth.grant_role("bob", "reader")
    assert not is_permitted(auth, "bob", b"b")


def test_what_is_made_of_roles_is_bounded() -> None:
    auth = AuthStore(DictBackend())
    auth.add_role("root")
    add_user(auth, "root", "root")
    auth.enable()
    for number in range(1100):
        auth.add_role(f"r{number}")
        add_user(auth, f"u{number}", f"r{number}")
    for number in range(1100):
        assert not is_permitted(auth, f"u{number}", b"a")
    assert len(auth._of_roles) <= 1000


@dataclass
class Granted:
    key: bytes
    end: bytes
    kind: auth_pb2.Permission.Type


@pytest.mark.parametrize("seed", range(20))
def test_random_grants_and_revocations(seed: int) -> None:
    """Against a plain list, which is sorted by key after each grant."""
    chance = random.Random(seed)
    backend = DictBackend()
    auth = AuthStore(backend)
    auth.add_role("r")
    model: list[Granted] = []
    for _ in range(100):
        key, end = bytes([chance.randrange(97, 101)]), chance.choice((b"", b"x", b"y", b"\0"))
        if chance.random() < 0.7:
            kind = chance.choice(KINDS)
            grant(auth, "r", key, end, kind)
            first = next((one for one in model if one.key >= key), None)
            if first is not None and (first.key, first.end) == (key, end):
                first.kind = kind
            else:
                model = sorted([*model, Granted(key, end, kind)], key=lambda one: one.key)
        elif any((one.key, one.end) == (key, end) for one in model):
            revoke(auth, "r", key, end)
            model = [one for one in model if (one.key, one.end) != (key, end)]
        else:
            with pytest.raises(errors.RequestError, match="permission is not granted"):
                revoke(auth, "r", key, end)
        expected = [auth_pb2.Permission(permType=one.kind, key=one.key, range_end=one.end) for one in model]
        for each in (auth, AuthStore(backend)):
            assert list(each.role("r").keyPermission) == expected
            assert each.grants_of(each.role("r")) == [(one.key, one.end, one.kind) for one in model]
            assert each.encoded_permissions_of("r") == rpc_pb2.AuthRoleGetResponse(perm=expected).SerializeToString()


@pytest.mark.parametrize("seed", range(20))
def test_a_change_of_one_permission_leaves_what_all_of_them_make(seed: int) -> None:
    """Users of one role and of both, while permissions of either change; against sets that are made anew."""
    chance = random.Random(seed)
    auth = AuthStore(DictBackend())
    auth.add_role("root")
    add_user(auth, "root", "root")
    auth.add_role("r")
    auth.add_role("s")
    users = {"ann": ["r"], "bob": ["s"], "eve": ["r", "s"]}
    for name, roles in users.items():
        add_user(auth, name, *roles)
    auth.enable()
    granted: list[tuple[str, bytes, bytes]] = []
    for _ in range(60):
        if granted and chance.random() < 0.4:
            revoke(auth, *granted.pop(chance.randrange(len(granted))))
        else:
            key, end = bytes([chance.randrange(97, 105)]), chance.choice((b"", b"", b"c", b"d", b"f", b"h", b"\0"))
            if end not in (b"", b"\0") and end <= key:
                end = b""
            one = (chance.choice("rs"), key, end)
            grant(auth, *one, chance.choice(KINDS))
            granted = [*(other for other in granted if other != one), one]
        for name, roles in users.items():
            kept = auth._permissions_of(Identity(name, auth.revision), b"")
            new = Permissions([RoleKeys(auth.grants_of(auth.role(role))) for role in roles], Trees(), is_root=False)
            for ours, theirs in ((kept.readable, new.readable), (kept.writable, new.writable)):
                for changed, made in zip(ours._sets, theirs._sets, strict=True):
                    assert (changed.begins, changed.ends) == (made.begins, made.ends)
                assert all(ours.covers(key, b"a") == theirs.covers(key, b"a") for key in (b"b", b"d", b"g", b"i"))


def test_a_change_of_one_permission_among_many_merges_few_intervals() -> None:
    """100,000 took 80 ms in the turn of the first check after each change."""
    auth = AuthStore(DictBackend())
    auth.add_role("root")
    add_user(auth, "root", "root")
    many = [auth_pb2.Permission(permType=auth_pb2.Permission.READWRITE, key=b"k/%05d" % number) for number in range(5000)]
    auth.put_role(auth_pb2.Role(name=b"r", keyPermission=many))
    add_user(auth, "ann", "r")
    auth.enable()
    keys = auth._role_keys["r"].readable
    before = keys.merged
    grant(auth, "r", b"k/00700x")
    assert is_permitted(auth, "ann", b"k/00700x")
    revoke(auth, "r", b"k/00700")
    assert not is_permitted(auth, "ann", b"k/00700")
    assert auth._role_keys["r"].readable is keys
    assert keys.merged - before < 10


def test_the_names_of_a_users_roles_are_read_once_after_a_change_of_the_user() -> None:
    """20 names of a megabyte: 6 ms to look for `root`, and 13 ms to find the permissions, in each check."""
    auth = store_with_users()
    auth.grant_role("ann", "other")
    roles = auth.roles_of_user("ann")
    assert roles == ("other", "reader")
    keys = {id(name) for name in (*auth.roles, *auth._role_keys)}
    assert all(id(name) in keys for name in roles)
    grant(auth, "reader", b"b")
    assert auth.roles_of_user("ann") is roles
    assert not auth.is_admin(auth.identity_of("ann"))
    auth.grant_role("ann", "root")
    assert auth.is_admin(auth.identity_of("ann"))
    auth.revoke_role("ann", "root")
    assert not auth.is_admin(auth.identity_of("ann"))
    for name in auth.delete_role("reader"):
        auth.remove_role_of(name, "reader")
    assert auth.roles_of_user("ann") == ("other",)
    auth.delete_user("ann")
    assert auth.roles_of_user("ann") == ()
