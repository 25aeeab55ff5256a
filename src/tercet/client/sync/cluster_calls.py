"""Generated from client/cluster_calls.py by `python -m tercet.client.generate_sync`: do not edit."""

from __future__ import annotations

from collections.abc import Sequence

from tercet.client.cluster_calls import ClusterCalls, Member
from tercet.client.facade import Facade
from tercet.client.invoker import Seconds


class SyncClusterCalls(Facade[ClusterCalls]):
    """Every method raises TercetError, those that change something Indeterminate too."""

    def list_members(self, *, serializable: bool = False, timeout: Seconds = ...) -> tuple[Member, ...]:
        """serializable: as one member knows them, without a quorum."""
        return self._run(self._inner.list_members(serializable=serializable, timeout=timeout))

    def add_member(self, peer_urls: Sequence[str], *, is_learner: bool = False, timeout: Seconds = ...) -> Member:
        """Add a member that is started afterwards. Raises AlreadyExists for peer URLs that a member has."""
        return self._run(self._inner.add_member(peer_urls, is_learner=is_learner, timeout=timeout))

    def remove_member(self, id: int, *, timeout: Seconds = ...) -> tuple[Member, ...]:
        """Returns the remaining ones. Raises NotFound."""
        return self._run(self._inner.remove_member(id, timeout=timeout))

    def update_member(self, id: int, peer_urls: Sequence[str], *, timeout: Seconds = ...) -> tuple[Member, ...]:
        """Raises NotFound."""
        return self._run(self._inner.update_member(id, peer_urls, timeout=timeout))

    def promote_member(self, id: int, *, timeout: Seconds = ...) -> tuple[Member, ...]:
        """Make a learner a voting member. Raises FailedPrecondition while it is too far behind."""
        return self._run(self._inner.promote_member(id, timeout=timeout))
