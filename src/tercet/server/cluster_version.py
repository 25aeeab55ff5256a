"""The cluster version: the highest version whose features every member supports.

The leader asks each member for its own version and proposes the smallest through the log. The cluster version rises only when
every member has answered, and falls only by a downgrade.

Source: etcd server/etcdserver/version/monitor.go, server.go (monitorClusterVersions), cluster_util.go (decideClusterVersion).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final

from tercet.errors import ConfigError, StatusError, strip_traceback
from tercet.log_fields import fields
from tercet.proto import internal_pb2
from tercet.replica.membership import Member, hex_id
from tercet.replica.replica import Replica
from tercet.services.awaitables import propose
from tercet.services.downgrade import cancel_downgrade
from tercet.version import ETCD_VERSION, MIN_CLUSTER_VERSION

logger = logging.getLogger(__name__)

MONITOR_SECONDS: Final = 4.0
_OWN_VERSION_SECONDS: Final = 0.5

FetchVersion = Callable[[Member], Awaitable[str | None]]
"""A member's own version, or None if it does not answer."""


async def monitor_cluster_version(replica: Replica, fetch: FetchVersion) -> None:
    """While this member leads, keep the cluster version at the minimum of the members' versions. Runs until cancelled."""
    changed = asyncio.Event()
    replica.leader_listeners.append(lambda leader_id: changed.set())
    while True:
        if replica.is_leader:
            await _update(replica, fetch)
        with suppress(TimeoutError):  # a new cluster gets its version at once
            async with asyncio.timeout(MONITOR_SECONDS):  # not wait_for, which in Python 3.11 may lose a cancellation
                await changed.wait()
        changed.clear()


async def monitor_downgrade(replica: Replica, fetch: FetchVersion, check_seconds: float) -> None:
    """While this member leads, end an enabled downgrade once every member runs the target version. Runs until cancelled.

    check_seconds: --downgrade-check-time.
    """
    while True:
        await asyncio.sleep(check_seconds)
        target = replica.membership.downgrade_target
        if not replica.is_leader or target is None:
            continue
        versions = await _versions(replica, fetch)
        if not all(version and _is_minor(version, target) for version in versions.values()):
            continue
        logger.info("the cluster has been downgraded", extra=fields({"cluster-version": target}))
        try:
            await cancel_downgrade(replica)
        except StatusError as error:
            logger.warning("failed to cancel downgrade", extra=fields(error=str(strip_traceback(error))))


async def stop_below_cluster_version(replica: Replica, stop: Callable[[ConfigError], None]) -> None:
    """Stop the member if the cluster version rises above its own version. Runs until then or until cancelled."""
    while True:
        try:
            check_own_version(replica.membership.cluster_version)
        except ConfigError as error:
            stop(error)
            return
        await asyncio.sleep(_OWN_VERSION_SECONDS)


def check_own_version(cluster_version: str | None) -> None:
    """A member must support the features of its cluster. Raises ConfigError with etcd's text (mustDetectDowngrade)."""
    if cluster_version is not None and parse(cluster_version)[:2] > parse(ETCD_VERSION)[:2]:
        raise ConfigError(
            "invalid downgrade; server version is lower than determined cluster version: "
            f"this member speaks {ETCD_VERSION}, the cluster {cluster_version}"
        )


def check_compatible(versions: Mapping[int, Mapping[str, str] | None], own_id: int, *, is_downgrading: bool = False) -> None:
    """Before joining a cluster: at least one member must report a cluster version that this member supports, and none another.

    versions: the /version objects of the members, None where one did not answer.
    is_downgrading: a downgrade is enabled, to this member's version at the lowest: the cluster may be one minor above it.
    Raises ConfigError with etcd's text (isCompatibleWithVers).
    """
    major, minor, _ = parse(ETCD_VERSION)
    lowest, highest = parse(MIN_CLUSTER_VERSION), (major, minor + is_downgrading, 0)
    supported = False
    for member_id, answer in versions.items():
        if answer is None or member_id == own_id:
            continue
        try:
            version = parse(answer.get("etcdcluster", ""))
        except ValueError:
            continue  # not decided yet
        if not lowest <= version <= highest:
            problem = "too low" if version < lowest else "too high"
            raise ConfigError(
                f"incompatible with current running cluster: the cluster version {answer['etcdcluster']} "
                f"of member {hex_id(member_id)} is {problem} for version {ETCD_VERSION}"
            )
        supported = True
    if not supported:
        raise ConfigError("incompatible with current running cluster: no member reported a cluster version")


async def _update(replica: Replica, fetch: FetchVersion) -> None:
    membership = replica.membership
    versions = await _versions(replica, fetch)
    before = membership.cluster_version
    version = decide(versions, before, membership.downgrade_target)
    if version is None:
        return
    verb = "setting up initial" if before is None else "updating"
    change = {"cluster-version": version} if before is None else {"from": before, "to": version}
    shown = fields(change, members=describe(versions))
    logger.info(f"{verb} cluster version using v3 API", extra=shown)
    try:
        await propose(replica, "cluster_version_set", internal_pb2.ClusterVersionSetRequest(ver=version))
    except StatusError as error:
        text = str(strip_traceback(error))
        logger.warning("failed to update cluster version", extra=fields(cluster_version=version, error=text))
        return
    logger.info("cluster version is updated", extra=fields(cluster_version=version.rpartition(".")[0]))


async def _versions(replica: Replica, fetch: FetchVersion) -> dict[int, str | None]:
    """Each member's own version by id; None where it did not answer."""
    others = [member for member in replica.membership.sorted() if member.id != replica.member_id]
    answers = await asyncio.gather(*(fetch(member) for member in others))
    return {member.id: answer for member, answer in zip(others, answers, strict=True)} | {replica.member_id: ETCD_VERSION}


def decide(versions: Mapping[int, str | None], current: str | None, downgrade_target: str | None = None) -> str | None:
    """The version to set next, or None to leave it.

    versions: each member's own version by id; None where it did not answer. What is no version counts as no answer.
    current: the cluster version; None before the first decision.
    downgrade_target: while a downgrade is enabled, the cluster version goes there, one minor version below, and does not rise.
    """
    known = [numbers for version in versions.values() if (numbers := _parsed(version)) is not None]
    if len(known) < len(versions) or not known:
        return MIN_CLUSTER_VERSION if current is None else None
    major, minor, _ = min(known)
    if current is not None and downgrade_target is not None:
        target = parse(downgrade_target)[:2]
        return f"{target[0]}.{target[1]}.0" if _is_one_minor_below(target, parse(current)) else None
    if current is None or (major, minor, 0) > parse(current):
        return f"{major}.{minor}.0"
    return None


def _is_minor(version: str, target: str) -> bool:
    numbers = _parsed(version)
    return numbers is not None and numbers[:2] == parse(target)[:2]


def _is_one_minor_below(target: tuple[int, ...], current: tuple[int, int, int]) -> bool:
    return target == (current[0], current[1] - 1)


def parse(version: str) -> tuple[int, int, int]:
    """(major, minor, patch) of `3.7.1`, `3.6` or `3.6.0-rc.1`. Raises ValueError."""
    numbers = version.split("-", 1)[0].split("+", 1)[0].split(".")
    if not 2 <= len(numbers) <= 3:
        raise ValueError(f"not a version: {version!r}")
    major, minor, patch = (*map(int, numbers), 0)[:3]
    return major, minor, patch


def _parsed(version: str | None) -> tuple[int, int, int] | None:
    try:
        return parse(version or "")
    except ValueError:
        return None


def describe(versions: Mapping[int, str | None]) -> str:
    """Each member's version, for a log line."""
    return ", ".join(f"{hex_id(member)}={version or 'unknown'}" for member, version in sorted(versions.items()))
