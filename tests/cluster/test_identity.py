"""A member's identity is on its disk: empty, incomplete and another cluster's data directories are rejected."""

from __future__ import annotations

import json
import shutil

import pytest

from tercet.bolt import BoltFile
from tests.cluster.conftest import Planned
from tests.cluster.writers import check_agreement
from tests.support.processes import QUICK, STEADY, etcdctl
from tests.support.waiting import wait_until


def test_d31_an_empty_disk_of_a_known_member_is_rejected(plan: Planned) -> None:
    """etcd #3504, #10254: a member that lost its votes and its log must not take part again."""
    cluster = plan(flags=QUICK).start()
    emptied = cluster["n3"]
    emptied.client.put(b"a", b"1")
    emptied.stop()
    shutil.rmtree(emptied.data)
    for state in ("existing", "new"):
        emptied.start(f"--initial-cluster-state={state}")
        assert emptied.wait_exit() == 1
        assert "has already been bootstrapped" in emptied.reason()
        assert not (emptied.data / "member" / "wal").exists()
    assert cluster["n1"].client.get(b"a") == b"1"
    check_agreement([cluster["n1"], cluster["n2"]])


def test_a_member_with_the_disk_of_another_cluster_does_not_join(plan: Planned) -> None:
    cluster = plan(flags=STEADY, token="theirs")
    foreign = cluster["n3"]
    foreign.start().wait_said("starting an etcd server")
    foreign.kill()
    for member in cluster.members:
        member.flags = [flag.replace("theirs", "ours") for flag in member.flags]
    ours = [cluster["n1"], cluster["n2"]]
    for member in ours:
        member.start()
    for member in ours:
        member.wait_ready()
    foreign.start()
    line = foreign.wait_said("another cluster")
    assert json.loads(line)["level"] in ("warn", "error")
    ours[0].wait_said("another cluster")
    assert "ready to serve" not in foreign.said()
    assert foreign.is_running
    term = ours[0].client.status().raftTerm
    for number in range(20):
        ours[number % 2].client.put(b"a", b"%d" % number)
    assert ours[0].client.status().raftTerm == term
    check_agreement(ours)


@pytest.mark.parametrize("what", ["wal", "database"])
def test_an_incomplete_data_directory_is_rejected(plan: Planned, what: str) -> None:
    """Without the log or the database, a member has lost writes that it acknowledged."""
    cluster = plan(["n1"], (*QUICK, "--snapshot-count=10"))
    member = cluster.start()["n1"]
    for number in range(30):
        member.client.put(b"a", b"%d" % number)
    member.stop()
    gone = member.data / "member" / ("wal" if what == "wal" else "snap/db")
    gone.rename(member.directory / "aside")
    member.start()
    assert member.wait_exit() == 1
    assert str(gone if what == "database" else member.data) in member.reason()
    if gone.exists():
        shutil.rmtree(gone)
    (member.directory / "aside").rename(gone)
    member.restart()
    assert member.client.get(b"a") == b"29"


def test_an_initial_member_stores_the_storage_version(plan: Planned) -> None:
    """The storage version is in snapshots for etcd's tools, in Status and in /version, also after a restart."""
    member = plan(["n1"], QUICK).start()["n1"]
    for _ in range(2):
        wait_until(lambda: member.client.status().storageVersion == "3.7.0", "the cluster has decided on its version")
        assert json.loads(member.http("/version")[1])["storage"] == "3.7.0"
        snapshot = member.directory / "snapshot.db"
        assert etcdctl([member], "snapshot", "save", str(snapshot)).returncode == 0
        with BoltFile(snapshot) as file:
            assert dict(file.items(b"meta"))[b"storageVersion"] == b"3.7.0"
        member.stop()
        member.restart()
