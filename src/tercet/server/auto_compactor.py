"""Proposes the compactions that --auto-compaction-mode asks for, while this member leads.

Source: etcd server/etcdserver/api/v3compactor.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from tercet import errors
from tercet.errors import StatusError, strip_traceback
from tercet.gotext.duration import format_seconds
from tercet.log_fields import fields
from tercet.proto import rpc_pb2
from tercet.replica.auto_compaction import AutoCompaction
from tercet.replica.proposals import Outcome
from tercet.replica.replica import Replica

logger = logging.getLogger(__name__)


class AutoCompactor:
    """Runs one policy. clock: monotonic seconds, the clock that the policy was made with."""

    def __init__(self, replica: Replica, policy: AutoCompaction, clock: Callable[[], float]) -> None:
        self._replica = replica
        self._policy = policy
        self._clock = clock

    def run_if_due(self) -> None:
        """To be called at each tick. Every member samples revisions, so that a new leader can compact at once."""
        policy, now = self._policy, self._clock()
        if now < policy.next_seconds:
            return
        revision = policy.due(now, self._replica.revision)
        if revision is None or not self._replica.is_leader:
            return
        logger.info(f"starting auto {policy.mode} compaction", extra=fields({"revision": revision, **policy.shown}))
        request = rpc_pb2.CompactionRequest(revision=revision)
        done = partial(self._done, revision, now)
        try:
            self._replica.propose("compaction", request.SerializeToString(), request, done)
        except StatusError as error:  # too many requests, for example: the policy tries again
            done(strip_traceback(error))

    def _done(self, revision: int, began: float, outcome: Outcome) -> None:
        policy, now = self._policy, self._clock()
        shown: dict[str, object] = {"revision": revision, **policy.shown}
        if isinstance(outcome, bytes) or outcome is errors.COMPACTED:
            policy.compacted(now, revision)
            logger.info(f"completed auto {policy.mode} compaction", extra=fields(shown, took=format_seconds(now - began)))
        else:
            retry = format_seconds(policy.retry_seconds)
            logger.warning(
                f"failed auto {policy.mode} compaction", extra=fields(shown, retry_interval=retry, error=str(outcome))
            )
