"""The names of alarm types. Clients may raise types that no release has named yet; etcd 3.6 and later store them."""

from __future__ import annotations

from tercet.proto import rpc_pb2


def alarm_name(alarm: int) -> str:
    """`NOSPACE`, or the number of a type without a name, as protobuf prints it."""
    return rpc_pb2.AlarmType.Name(alarm) if alarm in rpc_pb2.AlarmType.values() else str(alarm)  # type: ignore[arg-type]


def alarm_reason(alarm: int) -> str:
    """The name in health reports, where etcd calls a type without a name UNKNOWN."""
    name = alarm_name(alarm)
    return "UNKNOWN" if name.lstrip("-").isdigit() else name
