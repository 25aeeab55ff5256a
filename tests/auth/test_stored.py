"""What a restarted member knows of users and roles: what its database holds, and nothing else."""

from __future__ import annotations

from tercet.auth import AuthStore
from tercet.proto import auth_pb2, rpc_pb2
from tests.mvcc.dict_backend import DictBackend


def test_users_and_roles_that_were_deleted_stay_deleted_after_a_restart() -> None:
    backend = DictBackend()
    auth = AuthStore(backend)
    for name in ("kept", "gone"):
        auth.add_role(name)
        auth.add_user(rpc_pb2.AuthUserAddRequest(name=name, options=auth_pb2.UserAddOptions(no_password=True)))
        auth.grant_role(name, name)
    auth.delete_user("gone")
    for username in auth.delete_role("gone"):
        auth.remove_role_of(username, "gone")
    restarted = AuthStore(backend)
    assert set(restarted.users) == set(restarted.roles) == {"kept"}
    assert restarted.roles_of("kept") == ["kept"]
    assert restarted.revision == auth.revision
