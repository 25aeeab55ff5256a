"""Alarms that a member raises for itself: NOSPACE when it reaches its quota, CORRUPT when a stored record has a wrong checksum.

An alarm is proposed through the log, and once applied binds every member. It is not proposed again before the last proposal has
timed out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from tercet.errors import NO_SPACE, StatusError, strip_traceback
from tercet.log_fields import fields
from tercet.proto import rpc_pb2
from tercet.replica.proposals import Outcome
from tercet.replica.state_machine import StateMachine

logger = logging.getLogger(__name__)

Propose = Callable[[str, bytes, Any, Callable[[Outcome], None]], None]


class AlarmProposals:
    """The alarm proposals of one replica. propose: `Replica.propose`."""

    def __init__(
        self,
        propose: Propose,
        state_machine: StateMachine,
        member_id: int,
        *,
        clock: Callable[[], float],
        timeout_seconds: float,
    ) -> None:
        self._propose = propose
        self._state_machine = state_machine
        self._member_id = member_id
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._proposed_at: dict[int, float] = {}  # by type
        self._corruption_is_pending = False
        self._withdrawn_at: float | None = None

    def raise_no_space(self) -> None:
        """This member has reached its quota."""
        if not self._state_machine.alarms.no_space:
            self._propose_change(rpc_pb2.NOSPACE)

    def raise_corrupt(self) -> None:
        """A record stored here has a wrong checksum. Proposed at each `tick` until it is applied."""
        self._withdrawn_at = None
        self._corruption_is_pending = not self._state_machine.alarms.is_active(self._member_id, rpc_pb2.CORRUPT)
        if self._corruption_is_pending:
            self._propose_change(rpc_pb2.CORRUPT)

    def withdraw_corrupt(self) -> None:
        """The damaged records are gone. Proposed at each `tick` until the alarm is inactive; an alarm that has been proposed
        may be applied later than this call.
        """
        self._corruption_is_pending = False
        self._withdrawn_at = self._clock()
        self._proposed_at.pop(rpc_pb2.CORRUPT, None)

    def tick(self) -> None:
        if self._corruption_is_pending:
            self.raise_corrupt()
        withdrawn_at = self._withdrawn_at
        if withdrawn_at is None:
            return
        if self._state_machine.alarms.is_active(self._member_id, rpc_pb2.CORRUPT):
            self._propose_change(rpc_pb2.CORRUPT, rpc_pb2.AlarmRequest.DEACTIVATE)
        elif self._clock() - withdrawn_at > 2 * self._timeout_seconds:
            self._withdrawn_at = None

    def _propose_change(self, kind: int, action: int = rpc_pb2.AlarmRequest.ACTIVATE) -> None:
        if self._clock() - self._proposed_at.get(kind, float("-inf")) < self._timeout_seconds:
            return
        alarm = rpc_pb2.AlarmRequest(
            action=action,  # type: ignore[arg-type]
            memberID=self._member_id,
            alarm=kind,  # type: ignore[arg-type]
        )
        try:
            self._propose("alarm", alarm.SerializeToString(), alarm, _ignore)
        except StatusError as error:  # too far behind, for example: the next request over the quota, or the next tick, retries
            strip_traceback(error)
        else:
            self._proposed_at[kind] = self._clock()
            if kind == rpc_pb2.NOSPACE:
                logger.warning("message exceeded backend quota; raising alarm", extra=fields(error=NO_SPACE.message))


def _ignore(outcome: Outcome) -> None:
    """The alarm shows in the applied state."""
