"""What the report of a failed test shows of a server: a table of its members, and the end of each log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from tercet.embed.threaded import ThreadedServer
from tercet.testing.history import History

_LINES: Final = 50


def sections(server: Any) -> Iterator[tuple[str, str]]:
    """(title, text) of a server or a cluster."""
    members = getattr(getattr(server, "cluster", server), "members", None) or []
    if members:
        yield "tercet members", "\n".join(_row(member) for member in members)
    history = getattr(getattr(server, "cluster", server), "history", None)
    if isinstance(history, History) and history.text:
        yield "tercet history", history.text
    for member in members:
        if lines := member.logs[-_LINES:]:
            yield f"tercet log of {member.name}", "\n".join(lines)


def _row(member: Any) -> str:
    state = "running" if member.is_running else "stopped"
    if isinstance(member, ThreadedServer):
        if member.is_paused:
            state = "paused"
        driver = member.server.member
        if driver is not None:
            replica = driver.replica
            role = "leader" if replica.is_leader else f"follower of {replica.leader_id:x}" if replica.leader_id else "no leader"
            state += f", {role}, term {replica.term}, applied {replica.applied_index}, revision {replica.revision}"
        if member.failure is not None:
            state += f", failed: {member.failure}"
    return f"{member.name}  {member.endpoint}  {state}"
