"""snapshot: the group of the commands that restore and describe snapshots."""

from __future__ import annotations

from tercet.cli.ctl.command import Command

SNAPSHOT = Command(
    "snapshot",
    "Restore and describe snapshots",
    commands=(
        Command("restore", "Make a member's data directory from a snapshot", module="tercet.cli.utl.restore:RESTORE"),
        Command("status", "Show hash, revision, keys and size of a snapshot", module="tercet.cli.utl.status:STATUS"),
    ),
)
