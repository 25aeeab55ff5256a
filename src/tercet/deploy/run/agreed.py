"""Carry out an agreed plan: plan, confirm, lock the hosts, plan again, compare, execute.

The plan that is displayed is the plan that is executed: it is made again under the locks of the hosts, and a difference is an
error. Every command that changes hosts goes through `carry_out`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

from tercet.deploy.plan.plan import Plan
from tercet.deploy.run.events import OnEvent
from tercet.deploy.run.executor import execute
from tercet.deploy.run.host_lock import locked_hosts
from tercet.deploy.ssh.remote import Host
from tercet.errors import TercetError

Confirm = Callable[[Plan], Awaitable[bool]]
"""Receives the plan; returns False to change nothing."""
MakePlan = Callable[[], Awaitable[Plan]]


class Declined(TercetError):
    """The operator did not confirm."""

    def __init__(self) -> None:
        super().__init__("not confirmed: nothing was changed")


class StalePlan(TercetError):
    """The hosts have changed since the plan was made."""

    def __init__(self) -> None:
        super().__init__("the plan is stale: the hosts have changed since it was made; nothing was changed. Rerun the command")


async def carry_out(
    make_plan: MakePlan, confirm: Confirm | None, on_event: OnEvent, *, locked: Collection[Host], unit: str
) -> Plan:
    """Returns the executed plan, which is empty if there was nothing to do. Raises Declined, StalePlan, DeployError.

    make_plan: called twice; reads only. locked: all reachable hosts, which are locked against other operators.
    """
    plan = await make_plan()
    if plan.is_empty:
        return plan
    if confirm is not None and not await confirm(plan):
        raise Declined
    async with locked_hosts(locked, unit=unit):
        current = await make_plan()
        if current.changes != plan.changes:
            raise StalePlan
        await execute(current, on_event)
    return plan
