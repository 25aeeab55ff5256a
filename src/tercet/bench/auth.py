"""Loads with authentication: a user that may read and write every key the load uses, and its token."""

from __future__ import annotations

import ssl

from tercet.client import AsyncClient, ClusterChannel, methods
from tercet.proto import rpc_pb2

_NAME = "bench"
_PASSWORD = "bench"


async def enable_auth(endpoint: str, context: ssl.SSLContext | None) -> str:
    """Enable authentication in a cluster without users; returns the token of a user with a role of its own.

    Raises TercetError.
    """
    async with AsyncClient(endpoint, tls=context) as client:
        auth = client.auth
        await auth.add_user("root", _PASSWORD)
        await auth.grant_role("root", "root")
        await auth.add_role(_NAME)
        await auth.grant_permission(_NAME, "readwrite", b"", prefix=True)
        await auth.add_user(_NAME, _PASSWORD)
        await auth.grant_role(_NAME, _NAME)
        await auth.enable()
    async with ClusterChannel([endpoint], tls=context) as channel:
        request = rpc_pb2.AuthenticateRequest(name=_NAME, password=_PASSWORD)
        return (await channel.call(methods.AUTHENTICATE, request)).token
