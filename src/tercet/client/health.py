"""The health check of `etcdctl endpoint health`: a linearizable read, which needs a quorum, and no active alarm."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

from tercet.client.services import KV, Maintenance
from tercet.errors import Code, StatusError
from tercet.proto import rpc_pb2
from tercet.proto.alarm_names import alarm_reason

_KEY = b"health"  # any key, it need not exist


class HealthClient(Protocol):
    """A `ClusterChannel`, or another object with these calls."""

    @property
    def kv(self) -> KV: ...

    @property
    def maintenance(self) -> Maintenance: ...


@dataclass(frozen=True)
class Health:
    """took_nanoseconds: duration of the read, connecting included. failure: of the read, whose message is `error`."""

    is_healthy: bool
    took_nanoseconds: int
    error: str = ""
    failure: StatusError | None = None


async def check_health(client: HealthClient, *, timeout: float | None = None) -> Health:
    """Check the member that `client`, which should have one endpoint, is connected to. Does not raise StatusError."""
    began = time.perf_counter_ns()
    try:
        await client.kv.range(rpc_pb2.RangeRequest(key=_KEY), timeout=timeout)
    except StatusError as error:
        if error.code is not Code.PERMISSION_DENIED:  # that answer needs a quorum too
            return Health(False, time.perf_counter_ns() - began, error.message, error)
    took = time.perf_counter_ns() - began
    try:
        alarms = await client.maintenance.alarm(rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.GET), timeout=timeout)
    except StatusError:
        return Health(False, took, "Unable to fetch the alarm list")
    if alarms.alarms:
        names = "".join(f"{alarm_reason(alarm.alarm)} " for alarm in alarms.alarms)
        return Health(False, took, f"Active Alarm(s): {names}")
    return Health(True, took)
