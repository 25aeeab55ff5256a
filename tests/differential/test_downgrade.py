"""Maintenance.Downgrade compared with a real etcd 3.7: the same responses, errors and Status after each step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest

from tercet.proto import rpc_pb2
from tests.differential.twins import refusal
from tests.support.client import Client
from tests.support.newer import needs_newer_etcd, newer_etcd
from tests.support.processes import TERCET, Cluster, wait_until

_Action = rpc_pb2.DowngradeRequest
_VALIDATE, _ENABLE, _CANCEL = _Action.VALIDATE, _Action.ENABLE, _Action.CANCEL

# (action, version) of each request; None waits until the cluster and storage versions are those of the target.
STEPS: list[tuple[Any, str] | None] = [
    (_VALIDATE, "3.6"),
    (_VALIDATE, "3.6.9"),
    (_VALIDATE, "3.6.0-rc.1+build"),
    (_VALIDATE, "3.7.0"),
    (_VALIDATE, "3.5.0"),
    (_VALIDATE, ""),
    (_VALIDATE, "3"),
    (_VALIDATE, "v3.6.0"),
    (_VALIDATE, " 3.6.0"),
    (_VALIDATE, "3.6.x"),
    (_VALIDATE, "3.6.99999999999999999999"),
    (_ENABLE, "4.6.0"),
    (_ENABLE, "three"),
    (9, "3.6.0"),
    (_CANCEL, ""),
    (_ENABLE, "3.6.0"),
    None,
    (_VALIDATE, "3.6.0"),
    (_VALIDATE, "3.5.0"),
    (_ENABLE, "3.5.0"),
    (_ENABLE, "3.6.0"),
    (_CANCEL, "whatever"),
    (_CANCEL, ""),
]


def _downgrade(client: Client, action: Any, version: str) -> Any:
    request = rpc_pb2.DowngradeRequest(action=action, version=version)
    try:
        return client.call("Maintenance/Downgrade", request, rpc_pb2.DowngradeResponse, 30).version
    except grpc.RpcError as error:
        return refusal(error)


def _shown(client: Client) -> tuple[str, bool, str]:
    status = client.status()
    return status.storageVersion, status.downgradeInfo.enabled, status.downgradeInfo.targetVersion


@pytest.mark.server_process
@needs_newer_etcd
def test_each_step_of_a_downgrade_gets_etcds_response(tmp_path: Path) -> None:
    transcripts = []
    for name, program in (("tercet", TERCET), ("newer", newer_etcd())):
        cluster = Cluster.plan(tmp_path / name, [name], ["--downgrade-check-time=100s"], programs={name: program})
        try:
            member = cluster.members[0].start().wait_ready()
            client = member.client
            wait_until(lambda member=member: '"etcdcluster":"3.7.0"' in member.http("/version")[1], "the version is known")  # type: ignore[misc]
            wait_until(lambda client=client: _shown(client)[0] == "3.7.0", "the storage version is known")  # type: ignore[misc]
            found: list[Any] = []
            for step in STEPS:
                if step is None:
                    wait_until(lambda client=client: _shown(client)[0] == "3.6.0", "the storage version is 3.6.0")  # type: ignore[misc]
                else:
                    found.append((step, _downgrade(client, *step)))
                found.append(_shown(client))
            found.append(client.hash_kv(0).hash)
            transcripts.append(found)
        finally:
            cluster.dispose()
    assert transcripts[0] == transcripts[1]
