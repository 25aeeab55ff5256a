"""Members of the cluster."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class Member:
    """A member as the cluster lists it."""

    def __init__(self, id: int, name: str, peer_urls: Any, client_urls: Any, etcd_client: Any) -> None:
        self.id = id
        self.name = name
        self.peer_urls = peer_urls
        self.client_urls = client_urls
        self._etcd_client = etcd_client

    def __str__(self) -> str:
        return f"Cluster member with ID: {self.id}, peer URLs: {self.peer_urls}, client URLs: {self.client_urls}"

    async def remove(self) -> None:
        """Remove the member from the cluster."""
        await self._etcd_client.remove_member(self.id)

    async def update(self, peer_urls: Iterable[str]) -> None:
        """Replace the peer URLs."""
        await self._etcd_client.update_member(self.id, peer_urls)

    async def active_alarms(self) -> list[Any]:
        """The member's alarms. (The original awaits a generator here and raises TypeError.)"""
        return [alarm async for alarm in self._etcd_client.list_alarms(member_id=self.id)]
