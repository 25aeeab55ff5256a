"""Generated from client/watch_calls.py by `python -m tercet.client.generate_sync`: do not edit."""

from __future__ import annotations

from typing import Literal

from tercet.client.facade import Items
from tercet.client.key_space import Text
from tercet.client.sync.kv_calls import SyncKVCalls
from tercet.client.sync.watcher import SyncWatcher
from tercet.client.watch_list import ListBatch
from tercet.client.watch_state import BYTES_MAX, RESPONSES_MAX


class SyncWatchCalls(SyncKVCalls):
    """All watches of a client share one stream, or two if some do not require a leader."""

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
    ) -> SyncWatcher:
        """Watch one key, the keys that begin with it (`prefix`), or those from it up to, not including, `end`.

        since: the first revision to deliver, also one in the past; 0 for changes after the watch is created.
        prev_kv: deliver what each key held before. only: leave the other kind of event out.
        progress: yield a batch without events when the server reports that nothing has changed, about every 10 minutes.
        require_leader: continue on another member when the one in use has lost the leader.
        responses_max, bytes_max: bounds of the buffer. When it is full, the watch is cancelled at the server, and created again
        from the next revision when half of the buffer is free.
        """
        made = self._call(
            self._inner.watch,
            key,
            prefix=prefix,
            end=end,
            since=since,
            prev_kv=prev_kv,
            only=only,
            progress=progress,
            require_leader=require_leader,
            responses_max=responses_max,
            bytes_max=bytes_max,
        )
        return SyncWatcher._of(made, self._thread)

    def watch_list(self, prefix: Text, *, page_keys: int = 1000, progress: bool = False) -> Items[ListBatch]:
        """The keys that begin with `prefix` as they are, then their changes; never Compacted.

        When changes are lost to a compaction, the keys are listed again, and a batch with `is_resync` brings the difference,
        deletes included: whoever applies all batches has the state of the cluster. Raises Rewound, PermissionDenied,
        ClientClosed.
        """
        return self._iterate(self._inner.watch_list(prefix, page_keys=page_keys, progress=progress))

    def request_progress(self) -> None:
        """Have the server report progress to all watches of this client that have `progress=True`."""
        self._run(self._inner.request_progress())
