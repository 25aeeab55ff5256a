"""Mutants of auth/ and of the checks at apply: members decide differently, or by permissions that are no longer in force."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

MUTANTS: Final[tuple[Mutant, ...]] = (
    # --- decisions
    Mutant(
        "stale_auth_revision_accepted",
        "auth/rules.py",
        "        if identity.revision < self.revision:\n",
        "        if False:\n",
        "a request that was identified before a change of users or roles is applied after it",
    ),
    Mutant(
        "unidentified_request_accepted",
        "auth/rules.py",
        "        if identity.revision == 0:\n            raise errors.USER_EMPTY\n",
        "        if identity.revision == 0:\n            return Permissions((), self._trees, is_root=True)\n",
        "a request without a user, made before authentication was enabled, is applied after it",
    ),
    Mutant(
        "permissions_survive_their_revocation",
        "auth/rules.py",
        "    def _forget(self) -> None:\n        self._permissions = {}\n",
        "    def _forget(self) -> None:\n",
        "a user keeps the permissions that it had at its first request",
    ),
    Mutant(
        "permissions_survive_a_snapshot",
        "auth/rules.py",
        "        self._role_keys = others._role_keys\n        self._forget()\n",
        "        self._role_keys = others._role_keys\n",
        "a member that installs a snapshot decides by the permissions that it had before",
    ),
    Mutant(
        "read_permission_allows_writing",
        "auth/permissions.py",
        "WRITE: Final[Kinds] = frozenset((",
        "WRITE: Final[Kinds] = frozenset((int(auth_pb2.Permission.READ), ",
        "a user that may only read writes",
        unit_test="tests/auth/test_permissions.py::test_read_and_write_are_separate_and_readwrite_is_both",
    ),
    Mutant(
        "range_checked_by_its_first_key",
        "auth/permissions.py",
        "                if not end or (not is_open and range_end <= end):\n",
        "                if not end or (not is_open and key < end):\n",
        "a user reads and deletes ranges that continue after its permission",
    ),
    Mutant(
        "adjacent_permissions_not_merged",
        "auth/permissions.py",
        "if not begins or (last_end and last_end < begin):",
        "if not begins or (last_end and last_end <= begin):",
        "a range that two permissions cover together is refused",
        unit_test="tests/auth/test_permissions.py::test_a_range_is_covered_if_each_of_its_keys_is",
    ),
    Mutant(
        "previous_pair_read_without_permission",
        "replica/txn_permissions.py",
        '    if put.prev_kv:\n        auth.check_read(identity, put.key, b"")\n',
        "",
        "a user that may only write reads values as previous pairs",
        unit_test="tests/services/test_auth.py::test_keys_are_read_and_written_as_far_as_permitted",
    ),
    Mutant(
        "txn_comparisons_not_checked",
        "replica/txn_permissions.py",
        "            self._auth.check_read(self._identity, item.key, item.range_end)\n            return\n",
        "            return\n",
        "a user learns of keys that it may not read, by comparisons",
    ),
    Mutant(
        "txn_failure_branch_not_checked",
        "replica/txn_permissions.py",
        "chain(txn.success, txn.failure)",
        "chain(txn.success)",
        "a user writes in the failure branch of a Txn what it may not write",
    ),
    Mutant(
        "lease_keys_not_checked",
        "replica/lease_keys_check.py",
        '            for key in keys:\n                check(self._identity, key, b"")\n',
        "",
        "a user deletes keys that it may not write, by revoking their lease",
    ),
    Mutant(
        "anybody_grants_permissions",
        "replica/auth_requests.py",
        '    "auth_role_grant_permission",\n    "auth_role_revoke_permission",\n    "auth_role_list",\n',
        '    "auth_role_revoke_permission",\n    "auth_role_list",\n',
        "a user who is not root grants itself permissions",
    ),
    # --- the flag and the auth revision
    Mutant(
        "auth_enabled_at_the_next_start",
        "replica/state_machine.py",
        "            response = handler(request)\n            self._choose_handlers()\n            return response\n",
        "            return handler(request)\n",
        "members that were not restarted since authentication was enabled check nothing",
    ),
    Mutant(
        "disabling_keeps_the_auth_revision",
        "auth/store.py",
        "        self.set_enabled(False)\n        self.raise_revision()\n",
        "        self.set_enabled(False)\n",
        "tokens of before authentication was disabled are valid when it is enabled again",
    ),
    Mutant(
        "auth_revision_not_stored",
        "auth/records.py",
        "        self.revision += 1\n        self._put_revision()\n",
        "        self.revision += 1\n",
        "a restarted member has an older auth revision than the others",
    ),
    Mutant(
        "auth_flag_not_stored",
        "auth/records.py",
        "        self.is_enabled = is_enabled\n"
        '        self._backend.put(Bucket.AUTH, _ENABLED_KEY, b"\\x01" if is_enabled else b"\\x00")\n',
        "        self.is_enabled = is_enabled\n",
        "a restarted member serves everything to anybody",
    ),
    Mutant(
        "auth_of_a_snapshot_not_loaded",
        "replica/state_machine.py",
        "            self.auth.adopt_rules(prepared.auth)\n",
        "            pass\n",
        "a member that installs a snapshot keeps its old users and roles",
    ),
    Mutant(
        "password_change_keeps_the_auth_revision",
        "auth/store.py",
        "        user.password = password\n        self.put_user(user)\n        self.raise_revision()\n",
        "        user.password = password\n        self.put_user(user)\n",
        "requests identified by an old password are applied after it was changed",
    ),
    # --- users and roles
    Mutant(
        "identity_lost_on_followers",
        "replica/requests.py",
        "    identity = _identity_in(request.header)\n    if data[0] == _PUT_TAG:",
        "    identity = NOBODY\n    if data[0] == _PUT_TAG:",
        "members other than the one that was asked refuse the request",
    ),
    Mutant(
        "deleted_role_stays_with_its_users",
        "auth/store.py",
        "        self._remove_role(self.users[username], role)\n",
        "        pass\n",
        "a role that is added again is granted to users of the role that was deleted",
    ),
    Mutant(
        "role_of_a_user_not_stored",
        "auth/store.py",
        "to set all of them checks the UTF-8 of all\n        self.put_user(user)\n",
        "to set all of them checks the UTF-8 of all\n",
        "a restarted member does not know a role of a user",
    ),
    Mutant(
        "deleted_user_comes_back",
        "auth/records.py",
        "        self._backend.delete(Bucket.AUTH_USERS, self.user(name).name)\n",
        "        self.user(name)\n",
        "a restarted member has users that were deleted",
        unit_test="tests/auth/test_stored.py::test_users_and_roles_that_were_deleted_stay_deleted_after_a_restart",
    ),
    Mutant(
        "root_loses_its_role_while_auth_is_enabled",
        "auth/store.py",
        "        if self.is_enabled and username == ROOT and role == ROOT:\n",
        "        if False:\n",
        "nobody can administrate users any more",
        unit_test="tests/services/test_auth.py::test_each_refused_administration_has_etcds_code_and_text",
    ),
    Mutant(
        "nested_txn_not_checked",
        "replica/txn_permissions.py",
        "            self._pending.append(item.request_txn)\n",
        "            pass\n",
        "a user reads and writes by a nested Txn what the user has no permission for",
    ),
)
