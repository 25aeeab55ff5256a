"""top: which prefixes and keys take the space, which are written, which methods are called.

Sizes come from reading the range in pages, writes from a watch during --window, requests from the metrics of the endpoints at
its beginning and end. Members of tercet count calls and bytes by client address, those of etcd only requests by the clients'
API version; none counts requests by key.
"""

from __future__ import annotations

import asyncio
import heapq
import os
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from tercet.cli.ctl.command import Command
from tercet.cli.ctl.endpoint import CLUSTER_FLAG, chosen_endpoints
from tercet.cli.ctl.errors import CommandError, Exit, bad_arguments
from tercet.cli.ctl.flags import Flag
from tercet.cli.ctl.global_flags import SECOND
from tercet.cli.ctl.progress import Progress
from tercet.cli.ctl.report import Report, base64, shown
from tercet.cli.ctl.scrape import Scrape, scrape
from tercet.client import WatchStream, prefix_end
from tercet.errors import ConfigError
from tercet.gotext.strconv import humanize_bytes
from tercet.proto import kv_pb2, rpc_pb2

if TYPE_CHECKING:
    from tercet.cli.ctl.session import Session
    from tercet.client import ClusterChannel

_PAGE_KEYS = 500


class Grouping(NamedTuple):
    """Groups keys by their first parts below a prefix: with depth 1 `/registry/pods/a` belongs to `/registry/`."""

    prefix: bytes
    delimiter: bytes
    depth: int

    def of(self, key: bytes) -> bytes:
        """The group of a key; the key itself if it has fewer parts."""
        begin = len(self.prefix) + (len(self.delimiter) if key.startswith(self.delimiter, len(self.prefix)) else 0)
        for _ in range(self.depth):
            at = key.find(self.delimiter, begin)
            if at < 0:
                return key
            begin = at + len(self.delimiter)
        return key[:begin]


class Usage:
    """Sums by group, and the largest keys."""

    def __init__(self, grouping: Grouping, limit: int) -> None:
        self._grouping = grouping
        self._limit = limit
        self.keys: Counter[bytes] = Counter()
        self.bytes: Counter[bytes] = Counter()
        self.puts: Counter[bytes] = Counter()
        self.deletes: Counter[bytes] = Counter()
        self.written_bytes: Counter[bytes] = Counter()
        self.largest: list[tuple[int, bytes]] = []

    def stored(self, kv: kv_pb2.KeyValue) -> None:
        group, size = self._grouping.of(kv.key), len(kv.key) + len(kv.value)
        self.keys[group] += 1
        self.bytes[group] += size
        heapq.heappush(self.largest, (size, kv.key))
        if len(self.largest) > self._limit:
            heapq.heappop(self.largest)

    def changed(self, event: kv_pb2.Event) -> None:
        group = self._grouping.of(event.kv.key)
        if event.type == kv_pb2.Event.PUT:
            self.puts[group] += 1
            self.written_bytes[group] += len(event.kv.key) + len(event.kv.value)
        else:
            self.deletes[group] += 1


class Requests(NamedTuple):
    """Requests during the window of the endpoints that have metrics: by method, by the API version and the address of the
    clients. Bytes are by address."""

    methods: Counter[str]
    versions: Counter[str]
    addresses: Counter[str]
    received_bytes: Counter[str]
    sent_bytes: Counter[str]
    errors: dict[str, str]


async def _top(session: Session, arguments: list[str]) -> None:
    if len(arguments) > 1:
        raise bad_arguments("top command needs one argument as prefix")
    values = session.values
    limit, seconds = values.int("limit"), values.int("window") / SECOND
    if limit <= 0 or seconds <= 0 or values.int("depth") <= 0 or not values.string("delimiter"):
        raise bad_arguments("--limit, --window, --depth and --delimiter must be positive, and not empty")
    report = Report(session)
    prefix = os.fsencode(arguments[0]) if arguments else b""
    grouping = Grouping(prefix, os.fsencode(values.string("delimiter")), values.int("depth"))
    usage = Usage(grouping, limit)
    async with session.client() as client:
        if values.bool("stored"):
            await _read(client, prefix, usage)
        requests, _ = await asyncio.gather(_count_requests(session, seconds), _follow(client, prefix, usage, seconds))
    (_json if report.is_json else _print)(report, usage, requests, limit, seconds)


def _range(prefix: bytes) -> tuple[bytes, bytes]:
    return (prefix, prefix_end(prefix)) if prefix else (b"\0", b"\0")


async def _read(client: ClusterChannel, prefix: bytes, usage: Usage) -> None:
    """All keys and values of one revision, by serializable reads: a quorum has nothing to do with sizes."""
    key, range_end = _range(prefix)
    revision = 0
    progress = Progress("keys read")
    try:
        while True:
            page = await client.kv.range(
                rpc_pb2.RangeRequest(key=key, range_end=range_end, limit=_PAGE_KEYS, serializable=True, revision=revision)
            )
            revision = revision or page.header.revision
            for kv in page.kvs:
                usage.stored(kv)
            progress.advance(len(page.kvs))
            if not page.more or not page.kvs:
                return
            key = page.kvs[-1].key + b"\0"
    finally:
        progress.finish()


async def _follow(client: ClusterChannel, prefix: bytes, usage: Usage, seconds: float) -> None:
    key, range_end = _range(prefix)
    async with WatchStream(client) as stream:
        watch = stream.add(rpc_pb2.WatchCreateRequest(key=key, range_end=range_end))
        try:
            async with asyncio.timeout(seconds):
                async for response in watch:
                    for event in response.events:
                        usage.changed(event)
                    if response.canceled:
                        raise watch.error or CommandError(Exit.ERROR, response.cancel_reason)
        except TimeoutError:
            return


async def _count_requests(session: Session, seconds: float) -> Requests:
    requests = Requests(Counter(), Counter(), Counter(), Counter(), Counter(), {})

    async def count(endpoint: str) -> None:
        try:
            tls = session.http_tls(endpoint)
            before = await scrape(endpoint, tls, timeout=session.command_timeout)
            await asyncio.sleep(seconds)
            after = await scrape(endpoint, tls, timeout=session.command_timeout)
        except (OSError, ValueError, ConfigError) as error:
            requests.errors[endpoint] = str(error)
            return
        requests.methods.update(_increase(before, after, "grpc_server_started_total", "grpc_method"))
        requests.versions.update(_increase(before, after, "etcd_server_client_requests_total", "client_api_version"))
        requests.addresses.update(_increase(before, after, "tercet_client_calls_total", "client"))
        requests.received_bytes.update(_increase(before, after, "tercet_client_received_bytes_total", "client"))
        requests.sent_bytes.update(_increase(before, after, "tercet_client_sent_bytes_total", "client"))

    await asyncio.gather(*(count(endpoint) for endpoint in await chosen_endpoints(session)))
    return requests


def _increase(before: Scrape, after: Scrape, name: str, label: str) -> Counter[str]:
    """Of each label's values. One that was summed into the others before, or is now, has an unknown increase: none is shown."""
    past = before.by(name, label)
    is_new_known = "other" not in past
    return Counter(
        {
            key: max(int(value - past.get(key, 0.0)), 0)
            for key, value in after.by(name, label).items()
            if key in past or is_new_known
        }
    )


def _print(report: Report, usage: Usage, requests: Requests, limit: int, seconds: float) -> None:
    if usage.keys:
        rows = [
            [f"{usage.keys[group]:,}", humanize_bytes(size), shown(group)] for group, size in usage.bytes.most_common(limit)
        ]
        report.rows(("keys", "size", "prefix"), rows)
        report.line()
        report.rows(("size", "key"), [[humanize_bytes(size), shown(key)] for size, key in sorted(usage.largest, reverse=True)])
        report.line()
    writes = usage.puts + usage.deletes
    report.line(f"{sum(writes.values()):,} writes in {seconds:g} s")
    if writes:
        rows = [
            [f"{usage.puts[group]:,}", f"{usage.deletes[group]:,}", humanize_bytes(usage.written_bytes[group]), shown(group)]
            for group, _ in writes.most_common(limit)
        ]
        report.rows(("puts", "deletes", "size", "prefix"), rows)
    report.line()
    for title, counts in (("method", requests.methods), ("client version", requests.versions)):
        rows = [[f"{count:,}", f"{count / seconds:,.1f}", name] for name, count in counts.most_common(limit) if count > 0]
        if rows:
            report.rows(("requests", "per second", title), rows)
            report.line()
    rows = [
        [f"{calls:,}", humanize_bytes(requests.received_bytes[name]), humanize_bytes(requests.sent_bytes[name]), name]
        for name, calls in requests.addresses.most_common(limit)
        if calls > 0
    ]
    if rows:
        report.rows(("calls", "received", "sent", "client"), rows)
        report.line()
    for endpoint, error in requests.errors.items():
        report.note(f"no requests of {endpoint}: its metrics cannot be read: {error}")


def _json(report: Report, usage: Usage, requests: Requests, limit: int, seconds: float) -> None:
    writes = usage.puts + usage.deletes
    report.json(
        {
            "stored": [
                {"prefix": base64(group), "keys": usage.keys[group], "bytes": size}
                for group, size in usage.bytes.most_common(limit)
            ],
            "largest": [{"key": base64(key), "bytes": size} for size, key in sorted(usage.largest, reverse=True)],
            "window_seconds": seconds,
            "written": [
                {
                    "prefix": base64(group),
                    "puts": usage.puts[group],
                    "deletes": usage.deletes[group],
                    "bytes": usage.written_bytes[group],
                }
                for group, _ in writes.most_common(limit)
            ],
            "methods": [{"method": name, "requests": count} for name, count in requests.methods.most_common(limit) if count],
            "clients": [{"version": name, "requests": count} for name, count in requests.versions.most_common(limit) if count],
            "addresses": [
                {
                    "address": name,
                    "calls": calls,
                    "received_bytes": requests.received_bytes[name],
                    "sent_bytes": requests.sent_bytes[name],
                }
                for name, calls in requests.addresses.most_common(limit)
                if calls
            ],
            "errors": requests.errors,
        }
    )


TOP = Command(
    "top",
    "Show which prefixes and methods cost most",
    "[options] [prefix]",
    (
        Flag("limit", "int", 10, "rows of each table"),
        Flag("window", "duration", 3 * SECOND, "time to count writes and requests"),
        Flag("depth", "int", 1, "parts of a key that make a group"),
        Flag("delimiter", "string", "/", "what separates the parts of a key"),
        Flag("stored", "bool", True, "read all keys and values of the prefix, for their sizes"),
        CLUSTER_FLAG,
    ),
    _top,
    description=(
        "Requests are those of the endpoints, with --cluster of all members. They are counted by method and by the clients'\n"
        "API version, and by members of tercet also by client address; none counts them by key."
    ),
    examples=("tercetctl top", "tercetctl top /registry/ --depth 1 --window 10s", "tercetctl top --stored=false --cluster"),
)
