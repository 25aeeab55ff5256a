"""make-mirror: copy the keys under a prefix to another cluster, then follow their changes until an error.

The copy is read at one revision, in batches; the watch starts after it. A revision of the source becomes one transaction at the
destination, or several if it has more operations than --max-txn-ops. Source: etcd's client/v3/mirror and make-mirror.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tercet.cli.ctl.command import Command
from tercet.cli.ctl.errors import CommandError, Exit, bad_arguments
from tercet.cli.ctl.flags import Flag, Values
from tercet.cli.ctl.password import ask_password
from tercet.cli.ctl.progress import Progress
from tercet.client import ClusterChannel, TLSFiles, WatchStream, prefix_end
from tercet.proto import kv_pb2, rpc_pb2

if TYPE_CHECKING:
    from tercet.cli.ctl.session import Session

_BATCH_KEYS = 1000
_REPORT_SECONDS = 30
_COMPACTED = "etcdserver: mvcc: required revision has been compacted"


async def _make_mirror(session: Session, arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise bad_arguments("make-mirror takes one destination argument")
    values = session.values
    user, password = _destination_user(session)
    session.open()
    if values.bool("no-dest-prefix") and values.string("dest-prefix"):
        raise bad_arguments("`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one")
    destination = session.foreign_client(arguments[0], _destination_tls(values), user=user, password=password, timeout=math.inf)
    async with session.client(timeout=math.inf) as source, destination:
        mirror = _Mirror(session, source, destination)
        reporter = asyncio.create_task(mirror.report())
        try:
            await mirror.run()
        finally:
            reporter.cancel()


def _destination_user(session: Session) -> tuple[str, str]:
    user, password = session.values.string("dest-user"), session.values.string("dest-password")
    if user and not password:
        user, colon, password = user.partition(":")
        if not colon:
            password = ask_password(session.stdin, session.out, "Destination Password: ")
    return user, password


def _destination_tls(values: Values) -> TLSFiles | None:
    files = TLSFiles(cacert=values.string("dest-cacert"), cert=values.string("dest-cert"), key=values.string("dest-key"))
    return None if files == TLSFiles() and values.bool("dest-insecure-transport") else files


class _Mirror:
    """One run: `total` counts the keys copied and the changes repeated."""

    def __init__(self, session: Session, source: ClusterChannel, destination: ClusterChannel) -> None:
        values = session.values
        self._session = session
        self._source = source
        self._destination = destination
        self._prefix = os.fsencode(values.string("prefix"))
        self._start = max(values.int("rev") - 1, 0)
        self._target = os.fsencode(values.string("dest-prefix"))
        if self._start == 0 and not self._target and not values.bool("no-dest-prefix"):
            self._target = self._prefix
        self._operations_max = values.int("max-txn-ops")
        self._progress = Progress("keys mirrored")
        self.total = 0

    async def run(self) -> None:
        """Copy, then follow. Ends by an exception only: CommandError, StatusError."""
        revision = self._start or await self._copy()
        request = rpc_pb2.WatchCreateRequest(key=self._prefix or b"\0", range_end=prefix_end(self._prefix))
        request.start_revision = revision + 1
        async with WatchStream(self._source) as stream:
            async for response in await stream.watch(request):
                if response.canceled:
                    raise CommandError(Exit.ERROR, _COMPACTED if response.compact_revision else response.cancel_reason)
                await self._repeat(response.events)

    async def report(self) -> None:
        """Print the total every 30 seconds, as etcdctl does."""
        while True:
            await asyncio.sleep(_REPORT_SECONDS)
            self._session.printer.line(str(self.total))
            self._session.out.flush()

    async def _copy(self) -> int:
        """Copy all keys as they are at one revision, which is returned."""
        probe = await self._source.kv.range(rpc_pb2.RangeRequest(key=self._prefix or b"foo"))
        revision = probe.header.revision
        key = self._prefix or b"\0"
        while True:
            request = rpc_pb2.RangeRequest(key=key, range_end=prefix_end(self._prefix), limit=_BATCH_KEYS, revision=revision)
            part = await self._source.kv.range(request)
            for kv in part.kvs:
                await self._destination.kv.put(rpc_pb2.PutRequest(key=self._moved(kv.key), value=kv.value))
                self._count(1)
            if not part.more:
                self._progress.finish()
                return revision
            key = part.kvs[-1].key + b"\0"

    async def _repeat(self, events: Sequence[kv_pb2.Event]) -> None:
        operations: list[rpc_pb2.RequestOp] = []
        revision = 0
        for event in events:
            if operations and (event.kv.mod_revision > revision or len(operations) == self._operations_max):
                await self._commit(operations)
                operations = []
            revision = event.kv.mod_revision
            key = self._moved(event.kv.key)
            if event.type == kv_pb2.Event.PUT:
                operations.append(rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=key, value=event.kv.value)))
            else:
                operations.append(rpc_pb2.RequestOp(request_delete_range=rpc_pb2.DeleteRangeRequest(key=key)))
        if operations:
            await self._commit(operations)

    async def _commit(self, operations: list[rpc_pb2.RequestOp]) -> None:
        await self._destination.kv.txn(rpc_pb2.TxnRequest(success=operations))
        self._count(len(operations))

    def _count(self, keys: int) -> None:
        self.total += keys
        self._progress.advance(keys)

    def _moved(self, key: bytes) -> bytes:
        """The key at the destination: the prefix is replaced where it first occurs, which is at the start."""
        return key.replace(self._prefix, self._target, 1) if self._prefix else self._target + key


MAKE_MIRROR = Command(
    "make-mirror",
    "Copy keys to another cluster, and keep the copy up to date",
    "[options] <destination>",
    (
        Flag("prefix", "string", "", "mirror only the keys that begin with it"),
        Flag("rev", "int", 0, "copy nothing; repeat the changes from this revision on"),
        Flag("max-txn-ops", "uint", 128, "operations in one transaction at the destination"),
        Flag("dest-prefix", "string", "", "what replaces --prefix at the destination"),
        Flag("no-dest-prefix", "bool", False, "remove --prefix from the keys"),
        Flag("dest-cert", "string", "", "file with the client's TLS certificate for the destination"),
        Flag("dest-key", "string", "", "file with the key of --dest-cert"),
        Flag("dest-cacert", "string", "", "file with the CA certificates of the destination"),
        Flag("dest-insecure-transport", "bool", True, "do not use TLS for a destination without a scheme"),
        Flag("dest-user", "string", "", "name[:password] at the destination; the password is asked for if it is missing"),
        Flag("dest-password", "string", "", "password of --dest-user, which is then the name alone"),
    ),
    _make_mirror,
    description="The number of keys copied is printed every 30 seconds. The command runs until an error or a signal.",
    examples=("tercetctl --endpoints 10.0.0.1:2379 make-mirror --prefix config/ https://10.1.0.1:2379",),
)
