"""Maintenance.Downgrade: prepares a cluster for members of the version one minor below its own.

VALIDATE checks a target, ENABLE stores it through the log, CANCEL removes it. While one is stored the leader lowers the cluster
version to it (server/cluster_version.py), and the storage version of each member follows. Members are then replaced one by one;
once all run the target version, the leader cancels.

The answer's `version` is the cluster version as major.minor.
Source: etcd server/etcdserver/v3_server.go (Downgrade), server/etcdserver/version/version.go.
"""

from __future__ import annotations

import logging
import re
from typing import Final

from tercet import errors
from tercet.errors import StatusError, strip_traceback
from tercet.log_fields import fields
from tercet.proto import internal_pb2, rpc_pb2
from tercet.replica.replica import Replica
from tercet.services.awaitables import propose, read_index

logger = logging.getLogger(__name__)

_IDENTIFIERS: Final = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"
_TEXT_MAX: Final = 8192  # a megabyte of suffixes takes 0.3 s to match
_VERSION: Final = re.compile(rf"([0-9]+)\.([0-9]+)\.([0-9]+)(?:-{_IDENTIFIERS})?(?:\+{_IDENTIFIERS})?")
_INT64_MAX: Final = (1 << 63) - 1
_Action = rpc_pb2.DowngradeRequest


async def downgrade(replica: Replica, request: rpc_pb2.DowngradeRequest) -> rpc_pb2.DowngradeResponse:
    """Carry out a request. Raises StatusError with etcd's texts; its header is left empty."""
    if request.action == _Action.CANCEL:
        try:
            await cancel_downgrade(replica)
        except StatusError as error:  # etcd logs it too, and answers the client as if there had been one
            logger.warning("failed to cancel downgrade", extra=fields(error=str(strip_traceback(error))))
    elif request.action == _Action.VALIDATE:
        await _validate(replica, parse_target(request.version))
    elif request.action == _Action.ENABLE:
        target = parse_target(request.version)
        await _validate(replica, target)
        await propose(replica, "downgrade_info_set", internal_pb2.DowngradeInfoSetRequest(enabled=True, ver=_text(target)))
        logger.info("downgrade enabled", extra=fields(target_version=_text(target)))
    else:
        raise errors.UNKNOWN_METHOD
    cluster_version = replica.membership.cluster_version or ""
    return rpc_pb2.DowngradeResponse(version=cluster_version.rpartition(".")[0])


async def cancel_downgrade(replica: Replica) -> None:
    """End the downgrade. Raises NO_INFLIGHT_DOWNGRADE if none is enabled, Unavailable."""
    await read_index(replica)
    if replica.membership.downgrade_target is None:
        raise errors.NO_INFLIGHT_DOWNGRADE
    await propose(replica, "downgrade_info_set", internal_pb2.DowngradeInfoSetRequest(enabled=False))


def parse_target(text: str) -> tuple[int, int]:
    """(major, minor) of `3.6`, `3.6.4` or a semantic version with a suffix. Raises WRONG_DOWNGRADE_VERSION_FORMAT."""
    if len(text) > _TEXT_MAX:
        raise errors.WRONG_DOWNGRADE_VERSION_FORMAT
    match = _VERSION.fullmatch(text) or _VERSION.fullmatch(text + ".0")
    numbers = [number.lstrip("0") for number in match.groups()] if match is not None else []
    if not numbers or any(int(number[:20] or 0) > _INT64_MAX for number in numbers):  # int() refuses too many digits
        raise errors.WRONG_DOWNGRADE_VERSION_FORMAT
    return int(numbers[0] or 0), int(numbers[1] or 0)


async def _validate(replica: Replica, target: tuple[int, int]) -> None:
    """Raises StatusError if the cluster may not be downgraded to `target` now."""
    if replica.membership.cluster_version is None:
        raise errors.CLUSTER_VERSION_UNAVAILABLE
    await read_index(replica)
    membership = replica.membership
    major, minor, _ = (membership.cluster_version or "").split(".")
    if target != (int(major), int(minor) - 1):
        raise errors.INVALID_DOWNGRADE_TARGET
    if membership.downgrade_target is not None:
        raise errors.DOWNGRADE_IN_PROCESS


def _text(target: tuple[int, int]) -> str:
    return f"{target[0]}.{target[1]}.0"
