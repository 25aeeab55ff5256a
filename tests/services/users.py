"""Users with roles on a member that leads a cluster of its own, for tests of what each may call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

from tercet.proto import auth_pb2, rpc_pb2
from tercet.rpc import RpcError
from tests.services.harness import ServedMember, run, served

Put = rpc_pb2.PutRequest
Range = rpc_pb2.RangeRequest
Delete = rpc_pb2.DeleteRangeRequest
Txn = rpc_pb2.TxnRequest
READ, WRITE, READWRITE = auth_pb2.Permission.READ, auth_pb2.Permission.WRITE, auth_pb2.Permission.READWRITE


class Users:
    """Calls as a user. `tokens` are those of the last login."""

    def __init__(self, member: ServedMember) -> None:
        self.member = member
        self.tokens: dict[str, str] = {}

    async def call(self, method: str, request: Message, user: str = "", *, token: str = "") -> Any:
        response = getattr(rpc_pb2, request.DESCRIPTOR.name.removesuffix("Request") + "Response")
        token = token or self.tokens.get(user, "")
        metadata = [("token", token)] if token else []
        return await self.member.call(method, request, response, metadata=metadata)

    async def outcome(self, method: str, request: Message, user: str = "", *, token: str = "") -> str:
        """ "" if it succeeds, or the error's text."""
        try:
            await self.call(method, request, user, token=token)
        except RpcError as error:
            return str(error.message)
        return ""

    async def auth(self, method: str, by: str = "root", **fields: Any) -> Any:
        name = method if method.startswith("Auth") else f"Auth{method}"
        return await self.call(f"Auth/{method}", getattr(rpc_pb2, f"{name}Request")(**fields), by)

    async def add(self, user: str, *permissions: tuple[int, bytes, bytes], password: str = "secret") -> None:
        """A user with a role of its own."""
        await self.auth("UserAdd", name=user, password=password)
        await self.auth("RoleAdd", name=user)
        await self.auth("UserGrantRole", user=user, role=user)
        for kind, key, end in permissions:
            await self.grant(user, kind, key, end)

    async def grant(self, role: str, kind: Any, key: bytes, end: bytes = b"") -> None:
        permission = auth_pb2.Permission(permType=kind, key=key, range_end=end)
        await self.auth("RoleGrantPermission", name=role, perm=permission)

    async def log_in(self, user: str, password: str = "secret") -> str:
        request = rpc_pb2.AuthenticateRequest(name=user, password=password)
        token: str = (await self.call("Auth/Authenticate", request)).token
        self.tokens[user] = token
        return token

    async def enable(self) -> None:
        await self.add("root")
        await self.auth("AuthEnable")
        await self.log_in("root")


def with_users(test: Callable[[Users], Any], *, enabled: bool = True) -> None:
    async def whole() -> None:
        async with served() as member:
            users = Users(member)
            if enabled:
                await users.enable()
            await test(users)

    run(whole())


def op(request: Message) -> rpc_pb2.RequestOp:
    made = rpc_pb2.RequestOp()
    field = {Range: "request_range", Put: "request_put", Delete: "request_delete_range", Txn: "request_txn"}[type(request)]
    getattr(made, field).CopyFrom(request)
    return made
