"""history: every version of a key since the last compaction, deletions included."""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING

from tercet.cli.ctl.command import Command
from tercet.cli.ctl.errors import bad_arguments
from tercet.cli.ctl.flags import Flag
from tercet.cli.ctl.past import Past
from tercet.cli.ctl.report import Report, base64, shown
from tercet.gotext.json import message_json
from tercet.proto import kv_pb2

if TYPE_CHECKING:
    from tercet.cli.ctl.session import Session


async def _history(session: Session, arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise bad_arguments("history command needs one argument as key")
    key = os.fsencode(arguments[0])
    report = Report(session)
    newest = session.values.int("limit") or None
    versions: deque[kv_pb2.Event] = deque(maxlen=newest)
    async with session.client() as client:
        past = Past(client, key, b"", quiet_seconds_max=session.command_timeout)
        async for event in past.events():
            versions.append(event)
        oldest = await past.oldest()
    is_whole = newest is None or len(versions) < newest
    if oldest is not None and is_whole and (not versions or versions[0].kv.mod_revision > oldest.mod_revision):
        versions.appendleft(kv_pb2.Event(type=kv_pb2.Event.PUT, kv=oldest))
    _print(report, past, key, list(versions))


def _print(report: Report, past: Past, key: bytes, versions: list[kv_pb2.Event]) -> None:
    if report.is_json:
        report.json(
            {
                "header": message_json(past.header),
                "key": base64(key),
                "compact_revision": past.compact_revision,
                "versions": [_json(event) for event in versions],
            }
        )
        return
    if versions:
        report.rows(("revision", "event", "version", "lease", "bytes", "value"), [_row(event) for event in versions])
    else:
        report.note(f"no version of {shown(key)} is stored")
    if past.compact_revision:
        report.note(f"versions that were replaced or deleted before revision {past.compact_revision} are compacted")


def _is_put(event: kv_pb2.Event) -> bool:
    return event.type == kv_pb2.Event.PUT


def _row(event: kv_pb2.Event) -> list[str]:
    kv = event.kv
    if not _is_put(event):
        return [str(kv.mod_revision), "delete", "-", "-", "-", ""]
    lease = f"{kv.lease:x}" if kv.lease else "-"
    return [str(kv.mod_revision), "put", str(kv.version), lease, str(len(kv.value)), shown(kv.value)]


def _json(event: kv_pb2.Event) -> dict[str, object]:
    kv = event.kv
    if not _is_put(event):
        return {"event": "delete", "revision": kv.mod_revision}
    return {
        "event": "put",
        "revision": kv.mod_revision,
        "create_revision": kv.create_revision,
        "version": kv.version,
        "lease": kv.lease,
        "value": base64(kv.value),
    }


HISTORY = Command(
    "history",
    "Show every version of a key since the last compaction",
    "[options] <key>",
    (Flag("limit", "int", 0, "show only so many versions, the newest; 0: all"),),
    _history,
    description=(
        "Reads the key's changes from the oldest revision that is not compacted, deletions included.\n"
        "Neither etcd nor tercet stores when a change was made, and by whom."
    ),
    examples=("tercetctl history config/db", "tercetctl get config/db --rev 41"),
)
