"""Watches as methods of a client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

from tercet.client.key_space import KeySpace, Text
from tercet.client.kv_calls import KVCalls
from tercet.client.long_streams import LongStreams
from tercet.client.watch_list import ListBatch, watch_list
from tercet.client.watch_state import BYTES_MAX, RESPONSES_MAX
from tercet.client.watcher import Watcher
from tercet.proto import rpc_pb2

_FILTERS = {"put": rpc_pb2.WatchCreateRequest.NODELETE, "delete": rpc_pb2.WatchCreateRequest.NOPUT}


class WatchCalls(KVCalls):
    """All watches of a client share one stream, or two if some do not require a leader."""

    _streams: LongStreams
    _keys: KeySpace

    def watch(
        self,
        key: Text,
        *,
        prefix: bool = False,
        end: Text | None = None,
        since: int = 0,
        prev_kv: bool = False,
        only: Literal["put", "delete"] | None = None,
        progress: bool = False,
        require_leader: bool = True,
        responses_max: int = RESPONSES_MAX,
        bytes_max: int = BYTES_MAX,
    ) -> Watcher:
        """Watch one key, the keys that begin with it (`prefix`), or those from it up to, not including, `end`.

        since: the first revision to deliver, also one in the past; 0 for changes after the watch is created.
        prev_kv: deliver what each key held before. only: leave the other kind of event out.
        progress: yield a batch without events when the server reports that nothing has changed, about every 10 minutes.
        require_leader: continue on another member when the one in use has lost the leader.
        responses_max, bytes_max: bounds of the buffer. When it is full, the watch is cancelled at the server, and created again
        from the next revision when half of the buffer is free.
        """
        first, range_end = self._keys.prefix(key) if prefix else (self._keys.key(key), b"")
        if end is not None:
            first, range_end = self._keys.range(key, end)
        request = rpc_pb2.WatchCreateRequest(
            key=first,
            range_end=range_end,
            start_revision=since,
            prev_kv=prev_kv,
            filters=[_FILTERS[only]] if only else [],
            progress_notify=True,
            fragment=True,
        )
        stream = self._streams.watches(require_leader=require_leader)
        return Watcher(stream, self._keys, request, progress=progress, responses_max=responses_max, bytes_max=bytes_max)

    def watch_list(self, prefix: Text, *, page_keys: int = 1000, progress: bool = False) -> AsyncIterator[ListBatch]:
        """The keys that begin with `prefix` as they are, then their changes; never Compacted.

        When changes are lost to a compaction, the keys are listed again, and a batch with `is_resync` brings the difference,
        deletes included: whoever applies all batches has the state of the cluster. Raises Rewound, PermissionDenied,
        ClientClosed.
        """
        return watch_list(self, prefix, page_keys=page_keys, progress=progress)

    async def request_progress(self) -> None:
        """Have the server report progress to all watches of this client that have `progress=True`."""
        await self._streams.watches(require_leader=True).request_progress()
