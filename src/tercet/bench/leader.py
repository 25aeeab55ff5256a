"""Finds the leader among endpoints: load goes there, since a follower would forward each write."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence

from tercet.client import ClusterChannel
from tercet.errors import StatusError, TercetError
from tercet.proto import rpc_pb2


class NoLeader(TercetError):
    """None of the endpoints is the leader."""


async def find_leader(endpoints: Sequence[str], tls: ssl.SSLContext | None, *, timeout: float = 10.0) -> str:
    """The leader's endpoint, waiting for an election up to `timeout` seconds. Raises NoLeader."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while True:
        reason = "none of them is the leader"
        for endpoint in endpoints:
            try:
                async with ClusterChannel([endpoint], tls=tls, timeout=2.0) as client:
                    status = await client.maintenance.status(rpc_pb2.StatusRequest())
            except StatusError as error:
                reason = f"{endpoint}: {error.message}"
                continue
            if status.leader == status.header.member_id:
                return endpoint
        if loop.time() > deadline:
            raise NoLeader(f"no leader among {', '.join(endpoints)}: {reason}")
        await asyncio.sleep(0.1)
