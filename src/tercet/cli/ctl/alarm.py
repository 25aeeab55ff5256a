"""alarm list and disarm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tercet.cli.ctl.command import Command
from tercet.cli.ctl.errors import bad_arguments
from tercet.proto import rpc_pb2

if TYPE_CHECKING:
    from tercet.cli.ctl.session import Session


async def _list(session: Session, arguments: list[str]) -> None:
    if arguments:
        raise bad_arguments("alarm list command accepts no arguments")
    printer = session.open()
    async with session.client() as client:
        printer.alarm(await client.maintenance.alarm(rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.GET)))


async def _disarm(session: Session, arguments: list[str]) -> None:
    """Disarm every alarm, one request each, and print the disarmed alarms. There is no header, since there are several."""
    if arguments:
        raise bad_arguments("alarm disarm command accepts no arguments")
    printer = session.open()
    async with session.client() as client:
        raised = await client.maintenance.alarm(rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.GET))
        result = rpc_pb2.AlarmResponse()
        for alarm in raised.alarms:
            request = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.DEACTIVATE, memberID=alarm.memberID, alarm=alarm.alarm)
            result.alarms.extend((await client.maintenance.alarm(request)).alarms)
    printer.alarm(result)


ALARM = Command(
    "alarm",
    "List and disarm alarms",
    commands=(
        Command("list", "List the alarms that are raised", run=_list, examples=("tercetctl alarm list",)),
        Command("disarm", "Disarm all alarms", run=_disarm, examples=("tercetctl alarm disarm",)),
    ),
)
