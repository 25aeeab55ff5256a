"""Leases."""

from __future__ import annotations

from typing import Any


class Lease:
    """A granted lease; nothing keeps it alive but `refresh`."""

    def __init__(self, lease_id: int, ttl: int, etcd_client: Any) -> None:
        self.id = lease_id
        self.ttl = ttl
        self._etcd_client = etcd_client

    async def revoke(self) -> None:
        """End the lease, which deletes its keys."""
        await self._etcd_client.revoke_lease(self.id)

    async def refresh(self) -> Any:
        """Give the lease its whole TTL again. Returns the server's answer."""
        return await self._etcd_client.refresh_lease(self.id)

    async def remaining_ttl(self) -> int:
        """Seconds; -1 after the end."""
        return int((await self._etcd_client.get_lease_info(self.id, keys=False)).TTL)

    async def granted_ttl(self) -> int:
        """Seconds."""
        return int((await self._etcd_client.get_lease_info(self.id, keys=False)).grantedTTL)

    async def keys(self) -> Any:
        """The attached keys."""
        return (await self._etcd_client.get_lease_info(self.id)).keys
