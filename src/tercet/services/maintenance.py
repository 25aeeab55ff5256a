"""The Maintenance service: status, hashes, defragmentation, alarms, snapshots, leadership transfer.

What walks the whole store runs in a thread over a point-in-time view, so that no turn of the event loop is long.
Source: etcd server/etcdserver/api/v3rpc/maintenance.go.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

from tercet import errors
from tercet.gotext.duration import format_seconds
from tercet.gotext.strconv import humanize_bytes
from tercet.intake import intake_of_running_loop
from tercet.log_fields import fields
from tercet.mvcc import KVHash, hash_all, hash_kv, last_compaction
from tercet.proto import rpc_pb2
from tercet.proto.alarm_names import alarm_name
from tercet.replica.replica import Replica
from tercet.replica.storage_version import accepts_unnamed_alarms
from tercet.rpc import Handler, ServerStream, UnaryCall, server_stream, unary_async, unmarshal, unmarshal_streamed
from tercet.services.authorization import Authorization
from tercet.services.awaitables import open_view, propose
from tercet.services.compaction_hasher import CompactionHasher
from tercet.services.downgrade import downgrade
from tercet.services.headers import Headers
from tercet.services.leadership_transfer import LeadershipTransfers
from tercet.services.snapshot_threads import SnapshotThreads
from tercet.slots import Slots
from tercet.storage.interfaces import Backend, ReadView

logger = logging.getLogger(__name__)

SNAPSHOT_CHUNK_BYTES: Final = 32_768
_FOREIGN_ALARMS_MAX: Final = 64  # of ids that are no member's; every Status lists all alarms
Result = TypeVar("Result")


class Durations:
    """Observers of how long the work of Maintenance takes, in seconds; and the number of running defragmentations."""

    def __init__(self) -> None:
        self.hash_all: Callable[[float], None] = _ignore
        self.hash_kv: Callable[[float], None] = _ignore
        self.snapshot: Callable[[float], None] = _ignore
        self.defragment: Callable[[float], None] = _ignore
        self.defragmentations = 0


class MaintenanceService:
    """etcdserverpb.Maintenance on one member."""

    def __init__(
        self, replica: Replica, headers: Headers, authorization: Authorization, *, version: str, timeout_seconds: float
    ) -> None:
        self._replica = replica
        self._authorization = authorization
        self.compaction_hasher = CompactionHasher(replica)
        self._headers = headers
        self._version = version
        self._transfers = LeadershipTransfers(replica, timeout_seconds)
        self._one_at_a_time = Slots()
        self._intake = intake_of_running_loop()
        self._foreign_alarm = Slots()
        self.snapshot_threads = SnapshotThreads()
        self.durations = Durations()
        self.on_defragment: Callable[[bool], None] = lambda is_running: None
        """Called when a defragmentation begins and when it ends."""

    def handlers(self) -> dict[str, Handler]:
        return {
            "/etcdserverpb.Maintenance/Status": unary_async(self.status),
            "/etcdserverpb.Maintenance/Alarm": unary_async(self.alarm),
            "/etcdserverpb.Maintenance/Hash": unary_async(self.hash),
            "/etcdserverpb.Maintenance/HashKV": unary_async(self.hash_kv),
            "/etcdserverpb.Maintenance/Defragment": unary_async(self.defragment),
            "/etcdserverpb.Maintenance/Downgrade": unary_async(self.downgrade),
            "/etcdserverpb.Maintenance/MoveLeader": unary_async(self.move_leader),
            "/etcdserverpb.Maintenance/Snapshot": server_stream(self.snapshot),
        }

    async def status(self, call: UnaryCall, body: bytes) -> bytes:
        unmarshal(rpc_pb2.StatusRequest.FromString, body)
        self._authorization.require_identity(call)
        replica = self._replica
        backend = replica.backend
        alarms = replica.alarms.active()
        problems = [f"memberID:{one.memberID} alarm:{alarm_name(one.alarm)}" for one in alarms]
        if not replica.leader_id:
            problems.insert(0, errors.NO_LEADER.message)
        target = replica.membership.downgrade_target or ""
        response = rpc_pb2.StatusResponse(
            version=self._version,
            dbSize=backend.size(),
            dbSizeInUse=backend.size_in_use(),
            leader=replica.leader_id,
            raftIndex=replica.commit_index,
            raftTerm=replica.term,
            raftAppliedIndex=replica.applied_index,
            errors=problems,
            isLearner=replica.is_learner,
            storageVersion=replica.storage_version or "",
            dbSizeQuota=replica.quota.limit_bytes,
            downgradeInfo=rpc_pb2.DowngradeInfo(enabled=bool(target), targetVersion=target),
        )
        return self._headers.current() + response.SerializeToString()

    async def alarm(self, call: UnaryCall, body: bytes) -> bytes:
        request = unmarshal(rpc_pb2.AlarmRequest.FromString, body)
        if request.action == rpc_pb2.AlarmRequest.GET:
            self._authorization.require_identity(call)
        else:
            self._authorization.require_admin(call)
        if request.action not in rpc_pb2.AlarmRequest.AlarmAction.values():
            raise errors.RequestError(errors.Code.INVALID_ARGUMENT, f"etcdserver: unknown alarm action {request.action}")
        if request.action == rpc_pb2.AlarmRequest.ACTIVATE and not self._may_raise(request.alarm):
            raise errors.RequestError(errors.Code.INVALID_ARGUMENT, f"etcdserver: unknown alarm {request.alarm}")
        identity = self._authorization.identify(call)
        if request.action == rpc_pb2.AlarmRequest.ACTIVATE and request.memberID not in self._replica.membership.members:
            async with self._foreign_alarm:  # or thousands that are proposed together would all find room
                if len(self._replica.alarms.active()) >= _FOREIGN_ALARMS_MAX:
                    raise errors.TOO_MANY_REQUESTS
                outcome = await propose(self._replica, "alarm", request, identity)
        else:
            outcome = await propose(self._replica, "alarm", request, identity)
        return self._headers.current() + outcome

    def _may_raise(self, alarm: int) -> bool:
        named = alarm in rpc_pb2.AlarmType.values()
        return named or accepts_unnamed_alarms(self._replica.membership.cluster_version)

    async def hash(self, call: UnaryCall, body: bytes) -> bytes:
        unmarshal(rpc_pb2.HashRequest.FromString, body)
        self._authorization.require_admin(call)
        value = await self._over_view(hash_all, self.durations.hash_all)
        return self._headers.current() + rpc_pb2.HashResponse(hash=value).SerializeToString()

    async def hash_kv(self, call: UnaryCall, body: bytes) -> bytes:
        request = unmarshal(rpc_pb2.HashKVRequest.FromString, body)
        self._authorization.require_admin(call)
        response = await self.hash_at(request.revision)
        return self._headers.current() + response.SerializeToString()

    async def hash_at(self, revision: int) -> rpc_pb2.HashKVResponse:
        """A HashKV response without its header; revision 0 is the current one. Raises RequestError.

        As in etcd, after a compaction at 0 revision 0 is that of the compaction: `endpoint hashkv` compares members of both.
        """
        taken = await self.compaction_hasher.find(revision)
        if taken is None:
            at = self._replica.store.hash_revision(revision)
            taken = await self._over_view(lambda view: _hash_at(view, at), self.durations.hash_kv)
        return rpc_pb2.HashKVResponse(hash=taken.hash, compact_revision=taken.compact_revision, hash_revision=taken.revision)

    async def defragment(self, call: UnaryCall, body: bytes) -> bytes:
        unmarshal(rpc_pb2.DefragmentRequest.FromString, body)
        self._authorization.require_admin(call)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        began = loop.time()
        logger.info("starting defragment")
        backend = self._replica.backend
        size_before = backend.size()
        logger.info("defragmenting", extra=fields(_sizes(backend)))
        self.durations.defragmentations += 1
        self.on_defragment(True)
        try:
            backend.defragment(partial(self._intake.resolve, done, None))  # thousands may end together
            await done
        finally:
            self.durations.defragmentations -= 1
            self.on_defragment(False)
        seconds = loop.time() - began
        self.durations.defragment(seconds)
        shown = {"current-db-size-bytes-diff": backend.size() - size_before, **_sizes(backend), "took": format_seconds(seconds)}
        logger.info("finished defragmenting directory", extra=fields(shown))
        logger.info("finished defragment")
        return b""

    async def downgrade(self, call: UnaryCall, body: bytes) -> bytes:
        request = unmarshal(rpc_pb2.DowngradeRequest.FromString, body)
        self._authorization.require_admin(call)
        response = await downgrade(self._replica, request)
        return self._headers.current() + response.SerializeToString()

    async def move_leader(self, call: UnaryCall, body: bytes) -> bytes:
        target = unmarshal(rpc_pb2.MoveLeaderRequest.FromString, body).targetID
        self._authorization.require_admin(call)
        if not self._replica.is_leader:
            raise errors.NOT_LEADER
        if target not in self._replica.voters:
            raise errors.BAD_LEADER_TRANSFEREE
        await self._transfers.transfer(target)
        return b""

    async def snapshot(self, stream: ServerStream) -> None:
        """The whole store as a bbolt file in chunks, then its SHA-256: what `etcdctl snapshot save` writes to a file."""
        unmarshal_streamed(rpc_pb2.SnapshotRequest.FromString, await stream.receive_one())
        self._authorization.require_admin(stream)
        view = await open_view(self._replica)
        digest = hashlib.sha256()
        loop = asyncio.get_running_loop()
        version = self._replica.storage_version or ""
        began = loop.time()
        try:
            image = await self.snapshot_threads.measure(view)
            shown = {"total-bytes": image.size, "size": humanize_bytes(image.size), "storage-version": version}
            logger.info("sending database snapshot to client", extra=fields(shown))
            remaining, chunks = image.size, image.chunks(SNAPSHOT_CHUNK_BYTES)
            while blob := await self.snapshot_threads.next_chunk(chunks):
                digest.update(blob)
                remaining -= len(blob)
                await stream.send(
                    rpc_pb2.SnapshotResponse(remaining_bytes=remaining, blob=blob, version=version).SerializeToString()
                )
        finally:
            view.close()
        checksum = {"total-bytes": image.size, "checksum-size": digest.digest_size}
        logger.info("sending database sha256 checksum to client", extra=fields(checksum))
        await stream.send(rpc_pb2.SnapshotResponse(blob=digest.digest(), version=version).SerializeToString())
        seconds = loop.time() - began
        self.durations.snapshot(seconds)
        logger.info("successfully sent database snapshot to client", extra=fields(shown, took=format_seconds(seconds)))

    async def _over_view(self, work: Callable[[ReadView], Result], observe: Callable[[float], None]) -> Result:
        """Run `work` in a thread, over a view of everything applied so far; one at a time."""
        loop = asyncio.get_running_loop()
        async with self._one_at_a_time:  # each thread competes with the event loop for the interpreter
            began = loop.time()
            view = await open_view(self._replica)
            try:
                result = await loop.run_in_executor(None, work, view)
            finally:
                view.close()
            observe(loop.time() - began)
            return result


def _hash_at(view: ReadView, revision: int) -> KVHash:
    """The compaction is that of the view: one may have been applied since the request. Raises COMPACTED."""
    compacted = last_compaction(view)
    if 0 <= revision < compacted:
        raise errors.COMPACTED
    return hash_kv(view, revision, compacted)


def _ignore(seconds: float) -> None: ...


def _sizes(backend: Backend) -> dict[str, object]:
    size, in_use = backend.size(), backend.size_in_use()
    return {
        "current-db-size-bytes": size,
        "current-db-size": humanize_bytes(size),
        "current-db-size-in-use-bytes": in_use,
        "current-db-size-in-use": humanize_bytes(in_use),
    }
