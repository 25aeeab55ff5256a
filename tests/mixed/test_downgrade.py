"""A downgrade of a cluster of etcd and tercet: both kinds lower their versions, whichever leads, and report the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tercet.proto import rpc_pb2
from tests.mixed.mixture import make_leader
from tests.support.newer import needs_newer_etcd, newer_etcd
from tests.support.processes import TERCET, Cluster, Member, wait_until

_MONITOR_SECONDS = 20.0  # a leader checks the versions every 4 s
_Action = rpc_pb2.DowngradeRequest


def shown(member: Member) -> tuple[str, str, bool, str]:
    """Cluster version, storage version, whether a downgrade is enabled, and its target."""
    status = member.client.status()
    cluster_version = json.loads(member.http("/version")[1])["etcdcluster"]
    return cluster_version, status.storageVersion, status.downgradeInfo.enabled, status.downgradeInfo.targetVersion


def wait_shown(members: Sequence[Member], *expected: object) -> None:
    wait_until(lambda: {shown(member) for member in members} == {expected}, f"all show {expected}", seconds=_MONITOR_SECONDS)


def downgrade(member: Member, request: rpc_pb2.DowngradeRequest) -> str:
    return member.client.call("Maintenance/Downgrade", request, rpc_pb2.DowngradeResponse, 30).version


@needs_newer_etcd
def test_a_downgrade_lowers_the_versions_and_no_leader_raises_them_again(tmp_path: Path, bytecode: Path) -> None:
    kinds = {"e1": newer_etcd(), "t1": TERCET}
    cluster = Cluster.plan(tmp_path, kinds, programs=kinds, bytecode=bytecode)
    try:
        cluster.start()
        etcd, tercet = cluster.members
        wait_shown(cluster.members, "3.7.0", "3.7.0", False, "")
        make_leader(cluster, tercet)
        assert downgrade(etcd, _Action(action=_Action.ENABLE, version="3.6")) == "3.7"
        wait_shown(cluster.members, "3.6.0", "3.6.0", True, "3.6.0")
        for leader in (etcd, tercet):
            make_leader(cluster, leader)  # a new leader checks the versions at once
            cluster.members[0].client.put(b"k", b"v")
            wait_shown(cluster.members, "3.6.0", "3.6.0", True, "3.6.0")
        assert downgrade(tercet, _Action(action=_Action.CANCEL)) == "3.6"
        wait_shown(cluster.members, "3.7.0", "3.7.0", False, "")
    finally:
        cluster.dispose()
