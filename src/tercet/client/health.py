"""Is a member healthy? As etcdctl asks: can it answer a linearizable read, which needs a quorum, and is no alarm raised?"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

from tercet.client.services import KV, Maintenance
from tercet.errors import Code, StatusError
from tercet.proto import rpc_pb2

_KEY = b"health"  # any key will do, it need not exist


class Asked(Protocol):
    """A `Client`, or whoever else makes these calls."""

    @property
    def kv(self) -> KV: ...

    @property
    def maintenance(self) -> Maintenance: ...


@dataclass(frozen=True)
class Health:
    """took_nanoseconds: of the read, the time to connect included."""

    is_healthy: bool
    took_nanoseconds: int
    error: str = ""


async def check_health(client: Asked, *, timeout: float | None = None) -> Health:
    """Ask through `client`, which should have one endpoint. Never raises StatusError."""
    began = time.perf_counter_ns()
    try:
        await client.kv.range(rpc_pb2.RangeRequest(key=_KEY), timeout=timeout)
    except StatusError as error:
        if error.code is not Code.PERMISSION_DENIED:  # a quorum had to agree to refuse, too
            return Health(False, time.perf_counter_ns() - began, error.message)
    took = time.perf_counter_ns() - began
    try:
        alarms = await client.maintenance.alarm(rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.GET), timeout=timeout)
    except StatusError:
        return Health(False, took, "Unable to fetch the alarm list")
    if alarms.alarms:
        names = "".join(f"{rpc_pb2.AlarmType.Name(alarm.alarm)} " for alarm in alarms.alarms)
        return Health(False, took, f"Active Alarm(s): {names}")
    return Health(True, took)
