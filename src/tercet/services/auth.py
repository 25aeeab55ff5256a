"""The Auth service: users, roles, permissions, and logins.

Every call goes through the log, reads too, and is decided when its entry is applied (replica/auth_requests.py). What is done
before: passwords are hashed or compared here, since that is slow and random, so the log never holds a password.

A login compares the password, then proposes. If users or roles have changed between the two, the password may have, too: it is
compared again.
Source: etcd server/etcdserver/v3_server.go (Authenticate, UserAdd, UserChangePassword).
"""

from __future__ import annotations

import base64
import logging
from functools import partial
from typing import Any, Final

from google.protobuf.message import Message

from tercet import errors
from tercet.errors import StatusError
from tercet.log_fields import fields
from tercet.mvcc import Answer
from tercet.proto import internal_pb2, rpc_pb2
from tercet.replica.proposals import Outcome
from tercet.replica.replica import Replica
from tercet.replica.requests import canonical_encoding
from tercet.rpc import Handler, UnaryCall, unary, unary_async, unmarshal
from tercet.services.authorization import Authorization
from tercet.services.awaitables import propose, read_index
from tercet.services.headers import Headers
from tercet.services.passwords import Passwords
from tercet.services.scheduler import Scheduler

logger = logging.getLogger(__name__)

_LOGGED_MAX: Final = 256  # of a name that anybody may send

# Methods that are proposed as they are: their request, and its field in InternalRaftRequest.
_PROPOSED: Final[dict[str, tuple[type[Message], str]]] = {
    "AuthEnable": (rpc_pb2.AuthEnableRequest, "auth_enable"),
    "AuthDisable": (rpc_pb2.AuthDisableRequest, "auth_disable"),
    "AuthStatus": (rpc_pb2.AuthStatusRequest, "auth_status"),
    "UserDelete": (rpc_pb2.AuthUserDeleteRequest, "auth_user_delete"),
    "UserGet": (rpc_pb2.AuthUserGetRequest, "auth_user_get"),
    "UserGrantRole": (rpc_pb2.AuthUserGrantRoleRequest, "auth_user_grant_role"),
    "UserRevokeRole": (rpc_pb2.AuthUserRevokeRoleRequest, "auth_user_revoke_role"),
    "RoleAdd": (rpc_pb2.AuthRoleAddRequest, "auth_role_add"),
    "RoleDelete": (rpc_pb2.AuthRoleDeleteRequest, "auth_role_delete"),
    "RoleGet": (rpc_pb2.AuthRoleGetRequest, "auth_role_get"),
    "RoleGrantPermission": (rpc_pb2.AuthRoleGrantPermissionRequest, "auth_role_grant_permission"),
    "RoleRevokePermission": (rpc_pb2.AuthRoleRevokePermissionRequest, "auth_role_revoke_permission"),
}

_LISTS: Final[dict[str, tuple[type[Message], str]]] = {
    "UserList": (rpc_pb2.AuthUserListRequest, "auth_user_list"),
    "RoleList": (rpc_pb2.AuthRoleListRequest, "auth_role_list"),
}


class AuthService:
    """etcdserverpb.Auth on one member."""

    def __init__(
        self, replica: Replica, headers: Headers, authorization: Authorization, passwords: Passwords, scheduler: Scheduler
    ) -> None:
        self._replica = replica
        self._auth = replica.auth
        self._headers = headers
        self._authorization = authorization
        self._passwords = passwords
        self._scheduler = scheduler

    def handlers(self) -> dict[str, Handler]:
        methods = {
            "Authenticate": unary_async(self.authenticate),
            "UserAdd": unary_async(self.user_add),
            "UserChangePassword": unary_async(self.user_change_password),
        }
        for name, (request_type, field) in _PROPOSED.items():
            methods[name] = self._proposed(request_type, field)
        for name, (request_type, field) in _LISTS.items():
            methods[name] = unary(partial(self._list, request_type, field))
        return {f"/etcdserverpb.Auth/{name}": handler for name, handler in methods.items()}

    def _proposed(self, request_type: type[Message], field: str) -> Handler:
        async def call_method(call: UnaryCall, body: bytes) -> bytes:
            return await self._propose(call, field, unmarshal(request_type.FromString, body))

        return unary_async(call_method)

    def _list(self, request_type: type[Message], field: str, call: UnaryCall, body: bytes) -> None:
        try:
            request = unmarshal(request_type.FromString, body)
            identity = self._authorization.identify(call)
            self._replica.propose(field, canonical_encoding(request), request, partial(self._listed, call), identity)
        except StatusError as error:
            call.fail_with(error)

    def _listed(self, call: UnaryCall, outcome: Outcome) -> None:
        """Make the answer in slices: there may be very many names."""
        if call.finished:
            return
        if isinstance(outcome, StatusError):
            call.fail_with(outcome)
        elif isinstance(outcome, bytes):
            call.reply(self._headers.current() + outcome)
        else:
            then = partial(self._reply_list, call, self._headers.current(), outcome)
            job = self._scheduler.start(outcome, self._replica.store, then, is_backlogged=call.is_backlogged)
            if job is not None:
                call.on_cancel = partial(self._scheduler.cancel, job)

    def _reply_list(self, call: UnaryCall, header: bytes, answer: Answer, error: Exception | None) -> None:
        if error is None:
            call.reply_parts([header, *answer.parts])
        else:
            call.fail_with(error)

    async def authenticate(self, call: UnaryCall, body: bytes) -> bytes:
        """A token that the call carries is not looked at."""
        request = unmarshal(rpc_pb2.AuthenticateRequest.FromString, body)
        await read_index(self._replica)
        auth = self._auth
        while True:
            revision = auth.revision
            try:
                await self._check_password(request.name, request.password)
            except StatusError as error:
                _log_refusal(request.name, error)
                raise
            login = internal_pb2.InternalAuthenticateRequest(name=request.name, simple_token=auth.tokens.new_prefix())
            answer = await propose(self._replica, "authenticate", login)
            if auth.revision == revision:
                break
            logger.info("users or roles have changed since the password was compared, comparing it again")
        header = self._headers.current()
        if not answer:
            answer = rpc_pb2.AuthenticateResponse(token=auth.tokens.sign(request.name, revision)).SerializeToString()
        return header + answer

    async def user_add(self, call: UnaryCall, body: bytes) -> bytes:
        request = unmarshal(rpc_pb2.AuthUserAddRequest.FromString, body)
        if not request.options.no_password:
            request.hashedPassword = await self._hash(request.password)
        request.password = ""
        return await self._propose(call, "auth_user_add", request)

    async def user_change_password(self, call: UnaryCall, body: bytes) -> bytes:
        """An empty password leaves the hash that the client has sent, perhaps none: then no password is right."""
        request = unmarshal(rpc_pb2.AuthUserChangePasswordRequest.FromString, body)
        if request.password:
            request.hashedPassword = await self._hash(request.password)
        request.password = ""
        return await self._propose(call, "auth_user_change_password", request)

    async def _propose(self, call: UnaryCall, field: str, request: Any) -> bytes:
        body = await propose(self._replica, field, request, self._authorization.identify(call))
        return self._headers.current() + body

    async def _check_password(self, username: str, password: str) -> None:
        """Raises AUTH_NOT_ENABLED, AUTH_FAILED, NO_PASSWORD_USER or TOO_MANY_REQUESTS."""
        hashed = self._auth.password_of(username)
        if not await self._passwords.matches(password, hashed):
            logger.info("invalid password", extra=fields(user_name=username[:_LOGGED_MAX]))
            raise errors.AUTH_FAILED

    async def _hash(self, password: str) -> str:
        return base64.b64encode(await self._passwords.hash(password)).decode()


def _log_refusal(username: str, error: StatusError) -> None:
    if error is not errors.AUTH_NOT_ENABLED:
        text = error.message.replace("etcdserver:", "auth:", 1)  # as the auth package of etcd calls it
        logger.warning("invalid authentication was requested", extra=fields(user=username[:_LOGGED_MAX], error=text))
