"""Keeps a client's endpoints those of the cluster's members: asks for the members at the first connection, then periodically.

Members that have started and are no learners count; the endpoints given to the client remain as a last resort. A failed request
changes nothing and is made again after the interval. Source: etcd client/v3, AutoSyncInterval.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Iterable, Sequence
from typing import Protocol

from tercet.client import forks
from tercet.client.services import Cluster
from tercet.errors import StatusError
from tercet.proto import rpc_pb2

logger = logging.getLogger("tercet.client")


class Synchronized(Protocol):
    """A channel whose endpoints are kept up to date."""

    @property
    def cluster(self) -> Cluster: ...
    def use_endpoints(self, endpoints: Sequence[str]) -> None: ...


def client_urls(members: Iterable[rpc_pb2.Member]) -> list[str]:
    """Where clients reach the members."""
    return [url for member in members if member.name and not member.isLearner for url in member.clientURLs]


class MemberSync:
    """The task of one channel. It ends with `close`, or when the channel is garbage."""

    def __init__(self, channel: Synchronized, interval_seconds: float) -> None:
        self._channel = weakref.ref(channel)
        self._interval_seconds = interval_seconds
        self._task: asyncio.Task[None] | None = None
        forks.register(self)

    def start(self) -> None:
        """Idempotent. To be called in the event loop."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    def after_fork(self) -> None:
        self._task = None

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def _run(self) -> None:
        while await self._synchronize():
            await asyncio.sleep(self._interval_seconds)

    async def _synchronize(self) -> bool:
        """False if the channel is gone."""
        channel = self._channel()
        if channel is None:
            return False
        try:
            answer = await channel.cluster.member_list(rpc_pb2.MemberListRequest(linearizable=True))
        except StatusError as error:
            logger.info("the endpoints are kept as they are, since the members cannot be listed: %s", error.message)
        else:
            if urls := client_urls(answer.members):
                channel.use_endpoints(urls)
        return True
