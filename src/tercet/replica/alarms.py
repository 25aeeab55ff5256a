"""The active alarms: a replicated set of (member id, type).

Source: etcd server/etcdserver/api/v3alarm: activating an active alarm answers as the first time, deactivating an inactive one
answers with no alarm.
"""

from __future__ import annotations

from tercet.proto import rpc_pb2
from tercet.storage.interfaces import Backend, Bucket


class Alarms:
    """The alarms as of the last applied entry, stored in bucket `alarm` (encoded AlarmMember -> empty)."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._active: set[tuple[int, int]] = set()
        for key, _ in backend.scan(Bucket.ALARM):
            stored = rpc_pb2.AlarmMember.FromString(key)
            self._active.add((stored.memberID, stored.alarm))

    @property
    def no_space(self) -> bool:
        return self._has(rpc_pb2.NOSPACE)

    @property
    def corrupt(self) -> bool:
        return self._has(rpc_pb2.CORRUPT)

    def _has(self, alarm: int) -> bool:
        return any(kind == alarm for _, kind in self._active)

    def is_active(self, member_id: int, alarm: int) -> bool:
        return (member_id, alarm) in self._active

    def active(self, alarm: int = rpc_pb2.NONE) -> list[rpc_pb2.AlarmMember]:
        """All active alarms, or those of one type."""
        return [
            rpc_pb2.AlarmMember(memberID=member_id, alarm=kind)  # type: ignore[arg-type]
            for member_id, kind in sorted(self._active)
            if alarm in (rpc_pb2.NONE, kind)
        ]

    def apply(self, request: rpc_pb2.AlarmRequest) -> list[rpc_pb2.AlarmMember]:
        """Apply one AlarmRequest. Returns the alarms of the response."""
        if request.action == rpc_pb2.AlarmRequest.GET:
            return self.active(request.alarm)
        if request.alarm == rpc_pb2.NONE:
            return []
        alarm = rpc_pb2.AlarmMember(memberID=request.memberID, alarm=request.alarm)
        key = (request.memberID, int(request.alarm))
        if request.action == rpc_pb2.AlarmRequest.ACTIVATE:
            self._active.add(key)
            self._backend.put(Bucket.ALARM, alarm.SerializeToString(), b"")
            return [alarm]
        if request.action == rpc_pb2.AlarmRequest.DEACTIVATE and key in self._active:
            self._active.remove(key)
            self._backend.delete(Bucket.ALARM, alarm.SerializeToString())
            return [alarm]
        return []
