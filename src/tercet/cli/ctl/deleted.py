"""deleted: keys that do not exist any more, with the revision of their deletion and the value that is lost."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tercet.cli.ctl.command import Command
from tercet.cli.ctl.errors import bad_arguments
from tercet.cli.ctl.flags import Flag
from tercet.cli.ctl.past import Past
from tercet.cli.ctl.report import Report, base64, shown
from tercet.client import prefix_end
from tercet.gotext.json import message_json
from tercet.proto import kv_pb2, rpc_pb2

if TYPE_CHECKING:
    from tercet.cli.ctl.session import Session
    from tercet.client import ClusterChannel

_TXN_OPS = 100  # the default of --max-txn-ops is 128


async def _deleted(session: Session, arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise bad_arguments("deleted command needs one argument as prefix")
    prefix = os.fsencode(arguments[0])
    report = Report(session)
    last: dict[bytes, kv_pb2.Event] = {}
    async with session.client() as client:
        key, range_end = (prefix, prefix_end(prefix)) if prefix else (b"\0", b"\0")
        past = Past(client, key, range_end, quiet_seconds_max=session.command_timeout)
        async for event in past.events(only_deletions=True):
            last.pop(event.kv.key, None)  # so that the newest deletions come last
            last[event.kv.key] = event
        for key in await _existing(client, list(last), past.header.revision):
            del last[key]
    limit = session.values.int("limit")
    found = list(last.values())
    _print(report, past, prefix, found[-limit:] if limit else found)


async def _existing(client: ClusterChannel, keys: list[bytes], revision: int) -> list[bytes]:
    """Those of the keys that have been created again."""
    existing: list[bytes] = []
    for at in range(0, len(keys), _TXN_OPS):
        reads = [
            rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=key, keys_only=True, revision=revision))
            for key in keys[at : at + _TXN_OPS]
        ]
        answer = await client.kv.txn(rpc_pb2.TxnRequest(success=reads))
        existing += [kv.key for part in answer.responses for kv in part.response_range.kvs]
    return existing


def _print(report: Report, past: Past, prefix: bytes, found: list[kv_pb2.Event]) -> None:
    if report.is_json:
        report.json(
            {
                "header": message_json(past.header),
                "prefix": base64(prefix),
                "compact_revision": past.compact_revision,
                "deleted": [_json(event) for event in found],
            }
        )
        return
    if found:
        report.rows(("revision", "bytes", "key", "value"), [_row(event) for event in found])
        event = found[-1]
        name = shown(event.kv.key)
        report.note(f"to read a value again: get {name} --rev {event.kv.mod_revision - 1}, the revision before its deletion")
    else:
        report.note(f"no deleted key with the prefix {shown(prefix)} is stored")
    if past.compact_revision:
        report.note(f"deletions before revision {past.compact_revision} are compacted")


def _row(event: kv_pb2.Event) -> list[str]:
    is_known = event.HasField("prev_kv")
    value = event.prev_kv.value
    size, text = (str(len(value)), shown(value)) if is_known else ("-", "(compacted)")
    return [str(event.kv.mod_revision), size, shown(event.kv.key), text]


def _json(event: kv_pb2.Event) -> dict[str, object]:
    found: dict[str, object] = {"key": base64(event.kv.key), "revision": event.kv.mod_revision}
    if event.HasField("prev_kv"):
        found |= {"value": base64(event.prev_kv.value), "mod_revision": event.prev_kv.mod_revision}
    return found


DELETED = Command(
    "deleted",
    "List deleted keys with their last values",
    "[options] <prefix>",
    (Flag("limit", "int", 0, "list only so many keys, those deleted last; 0: all"),),
    _deleted,
    description=(
        "Lists the keys with the prefix that were deleted since the last compaction and do not exist now, in the order of\n"
        "their deletions. Keys of expired leases are among them: a store does not record why a key was deleted."
    ),
    examples=("tercetctl deleted config/", "tercetctl get config/db --rev 41 --print-value-only | tercetctl put config/db"),
)
