"""diff: what differs between two revisions of a prefix.

Both revisions are read in pages without values and compared like two sorted files: a key with the same mod_revision at both has
not changed. Values are read for the others alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, NamedTuple

from tercet.cli.ctl.command import Command
from tercet.cli.ctl.errors import CommandError, Exit, bad_arguments
from tercet.cli.ctl.flags import Flag
from tercet.cli.ctl.report import Report, base64, shown
from tercet.client import prefix_end
from tercet.gotext.json import message_json
from tercet.proto import kv_pb2, rpc_pb2

if TYPE_CHECKING:
    from tercet.cli.ctl.session import Session
    from tercet.client import ClusterChannel

_PAGE_KEYS = 1000
_REVISIONS = re.compile(r"(\d+)(?:\.\.(\d*))?")
_LINE_DIFF_BYTES_MAX = 1 << 16  # the time of a comparison by lines grows with the square of their number


class _Change(NamedTuple):
    """A key at the two revisions: None where it does not exist. With values unless --keys-only."""

    before: kv_pb2.KeyValue | None
    after: kv_pb2.KeyValue | None

    @property
    def kind(self) -> str:
        return "added" if self.before is None else "deleted" if self.after is None else "changed"

    @property
    def key(self) -> bytes:
        return (self.before or self.after or kv_pb2.KeyValue()).key


async def _diff(session: Session, arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise bad_arguments("diff command needs one argument as prefix")
    first, second = _revisions(session.values.string("rev"))
    prefix = os.fsencode(arguments[0])
    report = Report(session, has_columns=False)
    keys_only = session.values.bool("keys-only")
    changes: list[_Change] = []  # for JSON, which is one line
    counts = dict.fromkeys(("added", "changed", "deleted"), 0)
    async with session.client() as client:
        header = (await client.kv.range(rpc_pb2.RangeRequest(key=prefix or b"\0", count_only=True))).header
        second = second or header.revision
        async for change in _changes(client, prefix, first, second):
            counts[change.kind] += 1
            whole = change if keys_only else await _with_values(client, change, first, second)
            if report.is_json:
                changes.append(whole)
            else:
                _print(report, whole, keys_only=keys_only)
    if report.is_json:
        shown_changes = [_json(change, keys_only=keys_only) for change in changes]
        report.json({"header": message_json(header), "from": first, "to": second, "changes": shown_changes})
    else:
        listed = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        report.note(f"revision {first} to {second}: {listed}")
    if session.values.bool("exit-code") and any(counts.values()):
        raise CommandError(Exit.ERROR)


def _revisions(text: str) -> tuple[int, int]:
    """`A..B`, `A..` or `A`; the second is 0 for the present. Raises CommandError, exit 128."""
    match = _REVISIONS.fullmatch(text)
    if match is None or int(match[1]) == 0:
        raise bad_arguments(f"--rev needs the form A..B with A > 0, or A.. for the present; got {text!r}")
    first, second = int(match[1]), int(match[2] or 0)
    if second and second < first:
        raise bad_arguments(f"--rev {text}: the second revision is older than the first")
    return first, second


async def _changes(client: ClusterChannel, prefix: bytes, first: int, second: int) -> AsyncIterator[_Change]:
    """In the order of keys, without values. Holds one page of each revision."""
    olds, news = _keys(client, prefix, first), _keys(client, prefix, second)
    old, new = await anext(olds, None), await anext(news, None)
    while old is not None or new is not None:
        if new is None or (old is not None and old.key < new.key):
            yield _Change(old, None)
            old = await anext(olds, None)
        elif old is None or new.key < old.key:
            yield _Change(None, new)
            new = await anext(news, None)
        else:
            if old.mod_revision != new.mod_revision:
                yield _Change(old, new)
            old, new = await anext(olds, None), await anext(news, None)


async def _keys(client: ClusterChannel, prefix: bytes, revision: int) -> AsyncIterator[kv_pb2.KeyValue]:
    """The keys with a prefix at a revision, without values."""
    key, range_end = (prefix, prefix_end(prefix)) if prefix else (b"\0", b"\0")
    while True:
        request = rpc_pb2.RangeRequest(key=key, range_end=range_end, revision=revision, keys_only=True, limit=_PAGE_KEYS)
        page = await client.kv.range(request)
        for kv in page.kvs:
            yield kv
        if not page.more or not page.kvs:
            return
        key = page.kvs[-1].key + b"\0"


async def _with_values(client: ClusterChannel, change: _Change, first: int, second: int) -> _Change:
    async def read(kv: kv_pb2.KeyValue | None, revision: int) -> kv_pb2.KeyValue | None:
        if kv is None:
            return None
        return (await client.kv.range(rpc_pb2.RangeRequest(key=kv.key, revision=revision))).kvs[0]

    return _Change(await read(change.before, first), await read(change.after, second))


def _print(report: Report, change: _Change, *, keys_only: bool) -> None:
    paint = {"added": report.colours.green, "deleted": report.colours.red, "changed": report.colours.yellow}[change.kind]
    revisions = " -> ".join(str(kv.mod_revision) for kv in change if kv is not None)
    report.line(paint(f"{change.kind:<7}  {shown(change.key)}  (revision {revisions})"))
    if not keys_only:
        for sign, text in _lines(change):
            colour = {"-": report.colours.red, "+": report.colours.green}.get(sign, str)
            report.line(colour(f"  {sign} {text}".rstrip()))


def _lines(change: _Change) -> Iterator[tuple[str, str]]:
    """The difference of the values by lines; of values that are no text, or large, only the sizes."""
    before, after = (None if kv is None else _text(kv.value) for kv in change)
    is_text = all(text is not None for text, kv in zip((before, after), change, strict=True) if kv is not None)
    if not is_text:
        for sign, kv in zip("-+", change, strict=True):
            if kv is not None:
                yield sign, f"({len(kv.value)} bytes)"
        return
    from difflib import ndiff

    olds, news = ([] if text is None else text.splitlines() or [""] for text in (before, after))
    for line in ndiff(olds, news, charjunk=None):
        if line[0] != "?":
            yield line[0], line[2:]


def _text(value: bytes) -> str | None:
    if len(value) > _LINE_DIFF_BYTES_MAX:
        return None
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return None
    return text if all(character.isprintable() or character in "\n\t" for character in text) else None


def _json(change: _Change, *, keys_only: bool) -> dict[str, object]:
    found: dict[str, object] = {"change": change.kind, "key": base64(change.key)}
    for name, kv in zip(("before", "after"), change, strict=True):
        if kv is not None:
            side: dict[str, object] = {"mod_revision": kv.mod_revision, "version": kv.version, "lease": kv.lease}
            found[name] = side if keys_only else side | {"value": base64(kv.value)}
    return found


DIFF = Command(
    "diff",
    "Compare the keys of two revisions",
    "--rev A..B [options] <prefix>",
    (
        Flag("rev", "string", "", "the two revisions as A..B; A.. compares with the present; required"),
        Flag("keys-only", "bool", False, "leave the values out"),
        Flag("exit-code", "bool", False, "exit with 1 if there are differences"),
    ),
    _diff,
    description="Both revisions must not be compacted. An empty prefix compares all keys.",
    examples=("tercetctl diff --rev 40..52 config/", "tercetctl diff --rev 40.. '' --keys-only"),
)
