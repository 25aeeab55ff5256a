"""Members of the cluster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any


class Member:
    """A member as the cluster lists it."""

    def __init__(self, id: int, name: str, peer_urls: Any, client_urls: Any, etcd_client: Any = None) -> None:
        self.id = id
        self.name = name
        self.peer_urls = peer_urls
        self.client_urls = client_urls
        self._etcd_client = etcd_client

    def __str__(self) -> str:
        return f"Member {self.id}: peer urls: {self.peer_urls}, client urls: {self.client_urls}"

    def remove(self) -> None:
        """Remove the member from the cluster."""
        self._etcd_client.remove_member(self.id)

    def update(self, peer_urls: Iterable[str]) -> None:
        """Replace the peer URLs."""
        self._etcd_client.update_member(self.id, peer_urls)

    @property
    def active_alarms(self) -> Iterator[Any]:
        """The member's alarms."""
        alarms: Iterator[Any] = self._etcd_client.list_alarms(member_id=self.id)
        return alarms
