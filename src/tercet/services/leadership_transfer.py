"""Transfers of leadership that clients ask for. All that ask for the same target meanwhile share one transfer: a poll for each
of 100,000 calls, and the log lines of each, would keep the leader busy for seconds.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from tercet import errors
from tercet.errors import strip_traceback
from tercet.gotext.duration import format_seconds
from tercet.intake import TASK_WORK, intake_of_running_loop
from tercet.log_fields import fields
from tercet.replica.membership import hex_id
from tercet.replica.replica import Replica

logger = logging.getLogger(__name__)

_TRANSFER_POLL_SECONDS: Final = 0.05


class LeadershipTransfers:
    """Of one member, on its event loop."""

    def __init__(self, replica: Replica, timeout_seconds: float) -> None:
        self._replica = replica
        self._timeout_seconds = timeout_seconds
        self._intake = intake_of_running_loop()
        self._waiting: dict[int, list[asyncio.Future[None]]] = {}  # by target
        self._tasks: set[asyncio.Task[None]] = set()

    async def transfer(self, target: int) -> None:
        """`transfer_leadership`, or the end of one that is under way."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        waiting = self._waiting.get(target)
        if waiting is None:
            self._waiting[target] = waiting = []
            task = loop.create_task(self._transfer(target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        waiting.append(done)
        await done

    async def _transfer(self, target: int) -> None:
        failure: Exception | None = None
        try:
            await transfer_leadership(self._replica, target, self._timeout_seconds)
        except Exception as error:
            failure = strip_traceback(error)
        for done in self._waiting.pop(target):
            if done.done():
                continue
            await self._intake.admitted(TASK_WORK)
            if done.done():
                continue
            if failure is None:
                done.set_result(None)
            else:
                done.set_exception(failure)


async def transfer_leadership(replica: Replica, target: int, timeout_seconds: float) -> None:
    """Transfer leadership to `target` and wait until it leads. Raises Unavailable if that takes too long."""
    if target == replica.member_id:
        return
    own, old = hex_id(replica.member_id), hex_id(replica.leader_id)
    shown = fields(local_member_id=own, current_leader_member_id=old, transferee_member_id=hex_id(target))
    logger.info("leadership transfer starting", extra=shown)
    replica.transfer_leadership(target)
    loop = asyncio.get_running_loop()
    began = loop.time()
    give_up_at = began + timeout_seconds
    while replica.leader_id != target:
        is_abandoned = replica.is_leader and not replica.leader_transferee  # raft does so after an election timeout
        if is_abandoned or loop.time() > give_up_at:
            raise errors.TIMEOUT_LEADER_TRANSFER
        await asyncio.sleep(_TRANSFER_POLL_SECONDS)
    took = format_seconds(loop.time() - began)
    shown = fields(local_member_id=own, old_leader_member_id=old, new_leader_member_id=hex_id(target), took=took)
    logger.info("leadership transfer finished", extra=shown)
