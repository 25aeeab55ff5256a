"""tree: the children of a prefix, as directories and keys.

    config/            db/  (then its keys)   app.yaml

Skip-scan: a page of keys names the first children; a directory that goes on after the page is skipped by reading on at its end.
A directory of a million keys costs one page, a level costs a few reads for each of its directories, at most.

A member of etcd counts all keys of a range even if it returns one page of them. Where many keys follow, a page is therefore
looked for in narrow ranges first, which share all but a few letters with what was found last:
    after big/0070...   up to big/008, big/01, big/1, the end of big/
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, NamedTuple

from tercet.cli.ctl.command import Command
from tercet.cli.ctl.errors import bad_arguments
from tercet.cli.ctl.flags import Flag
from tercet.cli.ctl.report import Report, base64, shown
from tercet.client import prefix_end
from tercet.gotext.json import message_json
from tercet.proto import rpc_pb2

if TYPE_CHECKING:
    from tercet.cli.ctl.session import Session
    from tercet.client import ClusterChannel

_PAGE_KEYS = 32
_COUNTED_KEYS_MAX = 10_000  # which etcd counts in some 10 ms


class Child(NamedTuple):
    """path: the whole key; of a directory with the delimiter at its end. keys: below a directory; -1 if not counted."""

    path: bytes
    is_directory: bool
    depth: int
    keys: int = -1


class Scan:
    """A walk through the directories of one revision: of the first read, so that all are of the same moment."""

    def __init__(self, client: ClusterChannel, delimiter: bytes, *, depth: int, counts: bool) -> None:
        """depth: levels to descend; 0: all. counts: count the keys of each directory, which costs a member time."""
        self._client = client
        self._delimiter = delimiter
        self._depth = depth
        self._counts = counts
        self.header = rpc_pb2.ResponseHeader()

    async def children(self, prefix: bytes, depth: int = 0) -> AsyncIterator[Child]:
        """In the order of keys, a directory before what is in it. Raises StatusError."""
        start: bytes | None = prefix
        is_large = False
        while start is not None:
            start, found, is_large = await self._page(prefix, start, is_large=is_large)
            for path, is_directory in found:
                count = await self._count(path) if is_directory and self._counts else -1
                yield Child(path, is_directory, depth, count)
                if is_directory and (not self._depth or depth + 1 < self._depth):
                    async for below in self.children(path, depth + 1):
                        yield below

    async def _page(
        self, prefix: bytes, start: bytes, *, is_large: bool
    ) -> tuple[bytes | None, list[tuple[bytes, bool]], bool]:
        """Where to read on, None at the end; the next children; and whether the directory is large, as far as is known."""
        for end in (*(_near_ends(prefix, start) if is_large else ()), _end(prefix)):
            page = await self._range(start, end, limit=_PAGE_KEYS, keys_only=True)
            if page.kvs:
                break
            start = end
        is_large = is_large or page.count > _COUNTED_KEYS_MAX
        found: list[tuple[bytes, bool]] = []
        for kv in page.kvs:
            name, delimiter, _ = kv.key[len(prefix) :].partition(self._delimiter)
            child = (prefix + name + delimiter, bool(delimiter))
            if not found or found[-1] != child:
                found.append(child)
        if not page.more:
            return None if end == _end(prefix) else end, found, is_large
        path, is_directory = found[-1]
        following = prefix_end(path) if is_directory else path + b"\0"
        return (None if following == b"\0" else following), found, is_large

    async def _count(self, directory: bytes) -> int:
        return (await self._range(directory, prefix_end(directory), count_only=True)).count

    async def _range(
        self, key: bytes, range_end: bytes, *, limit: int = 0, keys_only: bool = False, count_only: bool = False
    ) -> rpc_pb2.RangeResponse:
        answer = await self._client.kv.range(
            rpc_pb2.RangeRequest(
                key=key or b"\0",
                range_end=range_end,
                revision=self.header.revision,
                limit=limit,
                keys_only=keys_only,
                count_only=count_only,
            )
        )
        if not self.header.revision:
            self.header = answer.header
        return answer


def _near_ends(prefix: bytes, start: bytes) -> Iterator[bytes]:
    """Ends of ranges from `start` on, each wider than the last, within the directory."""
    removed = 1
    while start.startswith(prefix) and len(start) - removed > len(prefix):
        end = prefix_end(start[:-removed])
        if end != b"\0":
            yield end
        removed += max(removed // 2, 1)


def _end(prefix: bytes) -> bytes:
    return prefix_end(prefix) if prefix else b"\0"


async def _tree(session: Session, arguments: list[str]) -> None:
    if len(arguments) > 1:
        raise bad_arguments("tree command needs one argument as prefix")
    prefix = os.fsencode(arguments[0]) if arguments else b""
    delimiter = os.fsencode(session.values.string("delimiter"))
    if not delimiter:
        raise bad_arguments("--delimiter must not be empty")
    report = Report(session, has_columns=False)
    children: list[Child] = []  # for JSON, which is one line
    async with session.client() as client:
        scan = Scan(client, delimiter, depth=max(session.values.int("depth"), 0), counts=session.values.bool("count"))
        async for child in scan.children(prefix):
            if report.is_json:
                children.append(child)
            else:
                _print(report, child, prefix, delimiter)
    if report.is_json:
        found = [_json(child) for child in children]
        report.json({"header": message_json(scan.header), "prefix": base64(prefix), "children": found})


def _print(report: Report, child: Child, prefix: bytes, delimiter: bytes) -> None:
    """The name below its directory, indented."""
    inside = child.path[len(prefix) :].removesuffix(delimiter if child.is_directory else b"")
    name = inside.split(delimiter)[child.depth] if child.is_directory else inside.split(delimiter, child.depth)[-1]
    text = shown(name + (delimiter if child.is_directory else b""))
    count = f"  ({child.keys:,} {'key' if child.keys == 1 else 'keys'})" if child.keys >= 0 else ""
    report.line("  " * child.depth + (report.colours.bold(text) if child.is_directory else text) + count)


def _json(child: Child) -> dict[str, object]:
    found: dict[str, object] = {"key": base64(child.path), "directory": child.is_directory, "depth": child.depth}
    return found | {"keys": child.keys} if child.keys >= 0 else found


TREE = Command(
    "tree",
    "List the children of a prefix as directories",
    "[options] [prefix]",
    (
        Flag("depth", "int", 1, "levels to show; 0: all, which reads every key"),
        Flag("delimiter", "string", "/", "what separates the parts of a key"),
        Flag("count", "bool", False, "count the keys of each directory; a member of etcd visits all of them for it"),
    ),
    _tree,
    description="Directories are skipped, not read: a level costs about one small read for each of its directories.",
    examples=("tercetctl tree", "tercetctl tree /registry/ --count", "tercetctl tree config/ --depth 2 -w json"),
)
