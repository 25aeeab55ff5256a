"""Past changes of keys, as far as they have not been compacted: a watch from the oldest revision to the present.

Reads at `mod_revision - 1`, repeated, would find the versions of a key back to its creation, but neither deletions nor what was
before them. A watch delivers all of it, from a member of etcd or of tercet, in one stream.

The present is the revision of a first read. The watch has caught up when a progress notification reaches it; a member that is
still reading history ignores the request for one, so it is repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from tercet.client import WatchStream
from tercet.errors import Code, StatusError
from tercet.proto import kv_pb2, rpc_pb2

if TYPE_CHECKING:
    from tercet.client import ClusterChannel, Watch

_PROGRESS_SECONDS = 0.2
_SETTLE_SECONDS = 1.0


class Past:
    """The changes of [key, range_end). Iterate over `events` first; then the other attributes are set.

    header: of the read that determined the present. compact_revision: what happened before it is lost; 0 if all is there.
    """

    def __init__(self, client: ClusterChannel, key: bytes, range_end: bytes, *, quiet_seconds_max: float) -> None:
        """quiet_seconds_max: raise StatusError, DEADLINE_EXCEEDED, if the member sends nothing for so long."""
        self._client = client
        self._key = key
        self._range_end = range_end
        self._quiet_seconds_max = quiet_seconds_max
        self.header = rpc_pb2.ResponseHeader()
        self.compact_revision = 0
        self._settle = 0.0

    async def events(self, *, only_deletions: bool = False) -> AsyncIterator[kv_pb2.Event]:
        """In the order of their revisions, each with `prev_kv` unless that is compacted. Raises StatusError."""
        request = rpc_pb2.RangeRequest(key=self._key, range_end=self._range_end, limit=1, keys_only=True)
        self.header = (await self._client.kv.range(request)).header
        self._settle = await self._settle_seconds()
        async with WatchStream(self._client) as stream:
            while True:
                watch = stream.add(self._request(only_deletions=only_deletions))
                async for response in self._until_present(stream, watch):
                    for event in response.events:
                        if event.kv.mod_revision <= self.header.revision:
                            yield event
                if not response.canceled:
                    return
                if response.compact_revision <= self.compact_revision:
                    raise watch.error or StatusError(Code.CANCELLED, response.cancel_reason)
                self.compact_revision = response.compact_revision

    def _request(self, *, only_deletions: bool) -> rpc_pb2.WatchCreateRequest:
        return rpc_pb2.WatchCreateRequest(
            key=self._key,
            range_end=self._range_end,
            start_revision=max(self.compact_revision, 1),
            prev_kv=True,
            filters=[rpc_pb2.WatchCreateRequest.NOPUT] if only_deletions else [],
        )

    async def _until_present(self, stream: WatchStream, watch: Watch) -> AsyncIterator[rpc_pb2.WatchResponse]:
        """The responses up to the one that reports the present, or that cancels the watch. Raises StatusError."""
        quiet_seconds = 0.0
        settle_seconds = self._settle
        while True:
            await stream.request_progress()
            try:
                response = await asyncio.wait_for(anext(watch), _PROGRESS_SECONDS)
            except TimeoutError:
                quiet_seconds += _PROGRESS_SECONDS
                if quiet_seconds >= self._quiet_seconds_max:
                    raise StatusError(Code.DEADLINE_EXCEEDED, "context deadline exceeded") from None
                continue
            yield response
            if response.canceled:
                return
            if response.events:
                quiet_seconds, settle_seconds = 0.0, self._settle
            elif not response.created and response.header.revision >= self.header.revision:
                if settle_seconds <= 0:
                    return
                await asyncio.sleep(_PROGRESS_SECONDS)
                settle_seconds -= _PROGRESS_SECONDS

    async def _settle_seconds(self) -> float:
        """How long a progress notification must stay the last word: etcd before 3.5.8 sends it before history."""
        try:
            version = (await self._client.maintenance.status(rpc_pb2.StatusRequest())).version
        except StatusError:  # no permission
            return 0.0
        numbers = tuple(int(part) for part in version.split("-")[0].split(".") if part.isdigit())
        return _SETTLE_SECONDS if numbers < (3, 5, 8) else 0.0

    async def oldest(self) -> kv_pb2.KeyValue | None:
        """The key as the compaction left it; None if nothing is compacted, or the key did not exist then."""
        if not self.compact_revision:
            return None
        request = rpc_pb2.RangeRequest(key=self._key, revision=self.compact_revision)
        answer = await self._client.kv.range(request)
        return answer.kvs[0] if answer.kvs else None
