"""The streams that a client keeps open: watches, and the renewal of leases. Views of a client share them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tercet.client import forks
from tercet.client.lease_keeper import LeaseKeeper
from tercet.client.watch import WatchStream

if TYPE_CHECKING:
    from tercet.client.cluster_channel import ClusterChannel


class LongStreams:
    """Each stream is opened when it is first needed."""

    def __init__(self, channel: ClusterChannel) -> None:
        self.leases = LeaseKeeper(channel)
        self._channel = channel
        self._watches: dict[bool, WatchStream] = {}
        forks.register(self)

    def after_fork(self) -> None:
        """In a child process: the streams are the parent's. Its watches and leases stay with it."""
        self.leases = LeaseKeeper(self._channel)
        self._watches = {}

    def watches(self, *, require_leader: bool) -> WatchStream:
        """The stream for watches. It ends, and they continue elsewhere, when its member has no leader, if they require one."""
        stream = self._watches.get(require_leader)
        if stream is None:
            stream = self._watches[require_leader] = WatchStream(self._channel, require_leader=require_leader)
        return stream

    async def close(self) -> None:
        for stream in self._watches.values():
            await stream.close()
        await self.leases.close()
