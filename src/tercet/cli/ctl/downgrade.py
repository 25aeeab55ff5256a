"""downgrade validate, enable and cancel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tercet.cli.ctl.command import Command, Run
from tercet.cli.ctl.errors import bad_arguments
from tercet.cli.ctl.output import Shown
from tercet.client import methods
from tercet.proto import rpc_pb2

if TYPE_CHECKING:
    from tercet.cli.ctl.session import Session

Action = rpc_pb2.DowngradeRequest.DowngradeAction


def _step(name: str, action: Action.ValueType) -> Run:
    """The command of one action; all but `cancel` take a version."""

    async def run(session: Session, arguments: list[str]) -> None:
        version = "" if action == Action.CANCEL else _version(arguments)
        printer = session.open()
        async with session.client() as client:
            answer = await client.call(methods.DOWNGRADE, rpc_pb2.DowngradeRequest(action=action, version=version))
        printer.show(Shown(answer, [f"Downgrade {name} success, cluster version {answer.version}"], fields=None))

    return run


def _version(arguments: list[str]) -> str:
    if not arguments:
        raise bad_arguments("TARGET_VERSION not provided")
    if len(arguments) > 1:
        raise bad_arguments("too many arguments")
    if not arguments[0]:
        raise bad_arguments("target version not provided")
    return arguments[0]


DOWNGRADE = Command(
    "downgrade",
    "Prepare the cluster for an older version",
    commands=(
        Command(
            "validate",
            "Check whether a downgrade is possible",
            "<TARGET_VERSION>",
            run=_step("validate", Action.VALIDATE),
            examples=("tercetctl downgrade validate 3.6",),
        ),
        Command(
            "enable",
            "Start a downgrade",
            "<TARGET_VERSION>",
            run=_step("enable", Action.ENABLE),
            examples=("tercetctl downgrade enable 3.6",),
        ),
        Command("cancel", "Cancel the downgrade that is going on", run=_step("cancel", Action.CANCEL)),
    ),
)
