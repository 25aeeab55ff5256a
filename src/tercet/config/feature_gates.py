"""Feature gates: behaviours switched on and off by `--feature-gates=A=true,B=false`.

AllAlpha and AllBeta set every gate of that stage that is not named itself.

Source: etcd server/features/etcd_features.go, pkg/featuregate.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from tercet.gotext.strconv import GoSyntaxError, parse_bool


class Gate(NamedTuple):
    """is_used: False if this version accepts the gate and ignores it."""

    name: str
    stage: str
    default: bool
    help: str
    is_used: bool = True


GATES: tuple[Gate, ...] = (
    Gate("AllAlpha", "ALPHA", False, "Sets every alpha gate that is not named itself."),
    Gate("AllBeta", "BETA", False, "Sets every beta gate that is not named itself."),
    Gate("CompactHashCheck", "ALPHA", False, "The leader compares compaction hashes with its followers."),
    Gate("FastLeaseKeepAlive", "BETA", True, "Renew a known lease without waiting for what is committed."),
    Gate("InitialCorruptCheck", "ALPHA", False, "Compare hashes with the peers before serving clients."),
    Gate("LeaseCheckpoint", "ALPHA", False, "Replicate the remaining TTL of leases over 5 min."),
    Gate("LeaseCheckpointPersist", "ALPHA", False, "Persist replicated TTLs below 3.6; requires LeaseCheckpoint."),
    Gate("PriorityRequest", "ALPHA", False, "Accept LeaseRevoke at twice the apply lag of other requests."),
    Gate("SetMemberLocalAddr", "ALPHA", False, "Dial peers from the first advertised address that is not loopback."),
    Gate("StopGRPCServiceOnDefrag", "ALPHA", False, "Report NOT_SERVING in gRPC health checks during defragmentation."),
    Gate("TxnModeWriteWithSharedBuffer", "BETA", True, "Reads in a write transaction share its buffer.", False),
)
_BY_NAME: Mapping[str, Gate] = {gate.name: gate for gate in GATES}
_STAGES = {"AllAlpha": "ALPHA", "AllBeta": "BETA"}


def parse_gates(text: str) -> Mapping[str, bool]:
    """Values of the gates in `A=true,B=false`. Raises ValueError with etcd's text."""
    named: dict[str, bool] = {}
    for part in text.split(","):
        if not part:
            continue
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise ValueError(f"missing bool value for {name}")
        try:
            named[name] = parse_bool(value)
        except GoSyntaxError as error:
            raise ValueError(f"invalid value of {name}={value}, err: {error}") from error
    for name in named:
        if name not in _BY_NAME:
            raise ValueError(f"unrecognized feature gate: {name}")
    return MappingProxyType(named)


def resolve_gates(named: Mapping[str, bool]) -> Mapping[str, bool]:
    """The value of every gate: set by name, or by its stage, or its default."""
    values: dict[str, bool] = {}
    for gate in GATES:
        stage_gate = next((name for name, stage in _STAGES.items() if stage == gate.stage and gate.name not in _STAGES), "")
        by_stage = named.get(stage_gate, gate.default)
        values[gate.name] = named.get(gate.name, by_stage)
    return MappingProxyType(values)


def active_gates(resolved: Mapping[str, bool]) -> Mapping[str, bool]:
    """The gates as they take effect: a gate that this version ignores is off."""
    return MappingProxyType({gate.name: gate.is_used and resolved[gate.name] for gate in GATES})
