"""Which version do all members speak? The leader asks each for its own and writes the smallest down, through the log.

Members of different versions can form one cluster; the cluster's version says what all of them understand. It rises only when
every member answered, and never falls without a downgrade.

Source: etcd server/etcdserver/version/monitor.go, adapters and cluster_util.go (decideClusterVersion).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tercet.replica.membership import hex_id
from tercet.version import MIN_CLUSTER_VERSION

MONITOR_SECONDS: Final = 4.0


def decide(versions: Mapping[int, str | None], current: str | None) -> str | None:
    """The version to set next, or None to leave it.

    versions: each member's own version by id; None where it did not answer.
    current: the cluster's version as it stands; None before the first decision.
    """
    known = [parse(version) for version in versions.values() if version]
    if len(known) < len(versions) or not known:
        return MIN_CLUSTER_VERSION if current is None else None
    major, minor, _ = min(known)
    candidate = (major, minor, 0)
    if current is None or candidate > parse(current):
        return f"{major}.{minor}.0"
    return None


def parse(version: str) -> tuple[int, int, int]:
    """(major, minor, patch) of `3.7.1`, `3.6` or `3.6.0-rc.1`. Raises ValueError."""
    numbers = version.split("-", 1)[0].split("+", 1)[0].split(".")
    if not 2 <= len(numbers) <= 3:
        raise ValueError(f"not a version: {version!r}")
    major, minor, patch = (*map(int, numbers), 0)[:3]
    return major, minor, patch


def describe(versions: Mapping[int, str | None]) -> str:
    """For a log line: who answered what."""
    return ", ".join(f"{hex_id(member)}={version or 'unknown'}" for member, version in sorted(versions.items()))
