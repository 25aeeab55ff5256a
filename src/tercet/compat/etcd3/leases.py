"""Leases."""

from __future__ import annotations

from typing import Any


class Lease:
    """A granted lease; nothing keeps it alive but `refresh`. Each property is a call to the server."""

    def __init__(self, lease_id: int, ttl: int, etcd_client: Any = None) -> None:
        self.id = lease_id
        self.ttl = ttl
        self.etcd_client = etcd_client

    def _get_lease_info(self) -> Any:
        return self.etcd_client.get_lease_info(self.id)

    def revoke(self) -> None:
        """End the lease, which deletes its keys."""
        self.etcd_client.revoke_lease(self.id)

    def refresh(self) -> list[Any]:
        """Give the lease its whole TTL again. Returns the server's answers."""
        return list(self.etcd_client.refresh_lease(self.id))

    @property
    def remaining_ttl(self) -> int:
        """Seconds; -1 after the end."""
        return int(self._get_lease_info().TTL)

    @property
    def granted_ttl(self) -> int:
        """Seconds."""
        return int(self._get_lease_info().grantedTTL)

    @property
    def keys(self) -> Any:
        """The attached keys."""
        return self._get_lease_info().keys
