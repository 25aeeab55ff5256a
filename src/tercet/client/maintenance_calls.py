"""The Maintenance service as `client.maintenance`. Except alarms, the calls are for the one member that is connected."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Literal

from tercet.client import methods
from tercet.client.cluster_channel import ClusterChannel
from tercet.client.invoker import Invoker, Seconds, failure
from tercet.client.results import Header
from tercet.client.snapshot_file import Snapshot, save_snapshot
from tercet.errors import StatusError
from tercet.proto import rpc_pb2
from tercet.proto.alarm_names import alarm_name

AlarmName = Literal["NOSPACE", "CORRUPT"]
_ALARMS = {"NOSPACE": rpc_pb2.NOSPACE, "CORRUPT": rpc_pb2.CORRUPT}


@dataclass(frozen=True, slots=True)
class Status:
    """Of one member. leader: its ID, 0 for none; errors: active alarms and a missing leader."""

    header: Header
    version: str
    storage_version: str
    db_bytes: int
    db_bytes_in_use: int
    db_bytes_quota: int
    leader: int
    raft_term: int
    raft_index: int
    raft_applied_index: int
    is_learner: bool
    errors: tuple[str, ...]
    raw: rpc_pb2.StatusResponse = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Alarm:
    member_id: int
    name: str


@dataclass(frozen=True, slots=True)
class HashKV:
    """Of the keys at `hash_revision`; members with the same revision and compact_revision have the same hash."""

    header: Header
    hash: int
    hash_revision: int
    compact_revision: int


class MaintenanceCalls:
    """Every method raises TercetError, those that change something Indeterminate too."""

    def __init__(self, invoker: Invoker) -> None:
        self._invoker = invoker

    async def status(self, *, timeout: Seconds = ...) -> Status:
        raw = await self._invoker.call(methods.STATUS, rpc_pb2.StatusRequest(), timeout=timeout)
        return Status(
            header=Header.of(raw.header),
            version=raw.version,
            storage_version=raw.storageVersion,
            db_bytes=raw.dbSize,
            db_bytes_in_use=raw.dbSizeInUse,
            db_bytes_quota=raw.dbSizeQuota,
            leader=raw.leader,
            raft_term=raw.raftTerm,
            raft_index=raw.raftIndex,
            raft_applied_index=raw.raftAppliedIndex,
            is_learner=raw.isLearner,
            errors=tuple(raw.errors),
            raw=raw,
        )

    async def list_alarms(self, *, timeout: Seconds = ...) -> tuple[Alarm, ...]:
        request = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.GET)
        return _alarms(await self._invoker.call(methods.ALARM_GET, request, timeout=timeout))

    async def raise_alarm(self, name: AlarmName, member_id: int, *, timeout: Seconds = ...) -> tuple[Alarm, ...]:
        """Activate an alarm: the cluster refuses puts (NOSPACE), or everything (CORRUPT)."""
        request = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.ACTIVATE, memberID=member_id, alarm=_ALARMS[name])
        return _alarms(await self._invoker.call(methods.ALARM_SET, request, timeout=timeout))

    async def disarm_alarm(self, name: AlarmName, member_id: int, *, timeout: Seconds = ...) -> tuple[Alarm, ...]:
        """Returns those that were disarmed."""
        request = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.DEACTIVATE, memberID=member_id, alarm=_ALARMS[name])
        return _alarms(await self._invoker.call(methods.ALARM_SET, request, timeout=timeout))

    async def hash_kv(self, revision: int = 0, *, timeout: Seconds = ...) -> HashKV:
        """revision: 0 for the current one."""
        raw = await self._invoker.call(methods.HASH_KV, rpc_pb2.HashKVRequest(revision=revision), timeout=timeout)
        return HashKV(Header.of(raw.header), raw.hash, raw.hash_revision, raw.compact_revision)

    async def defragment(self, *, timeout: Seconds = None) -> Header:
        """Rewrite the member's database without free pages. The member answers nothing else meanwhile; no limit by default."""
        answer = await self._invoker.call(methods.DEFRAGMENT, rpc_pb2.DefragmentRequest(), timeout=timeout)
        return Header.of(answer.header)

    async def move_leader(self, target: int, *, timeout: Seconds = ...) -> Header:
        """Make the member with ID `target` the leader. The member that is asked must lead. Raises FailedPrecondition."""
        request = rpc_pb2.MoveLeaderRequest(targetID=target)
        return Header.of((await self._invoker.call(methods.MOVE_LEADER, request, timeout=timeout)).header)

    async def snapshot(self, path: str | os.PathLike[str], *, timeout: float | None = None) -> Snapshot:
        """Save the member's database to a file, checked by its SHA-256. An existing file is replaced, once all has arrived.

        timeout: for the whole transfer; no limit by default. Raises TercetError, also for a wrong checksum, and OSError.
        """
        channel: ClusterChannel = self._invoker.channel
        pieces = channel.maintenance.snapshot(rpc_pb2.SnapshotRequest(), timeout=timeout)
        try:
            return await save_snapshot(pieces, os.fspath(path))
        except StatusError as error:
            raise failure(error) from None


def _alarms(answer: rpc_pb2.AlarmResponse) -> tuple[Alarm, ...]:
    return tuple(Alarm(one.memberID, alarm_name(one.alarm)) for one in answer.alarms)
