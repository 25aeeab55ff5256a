"""Who a member is does not follow from its flags alone: empty disks and strangers' disks are told apart, and refused."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.cluster.conftest import Planned
from tests.cluster.writers import check_agreement
from tests.support.processes import QUICK


def test_d31_an_empty_disk_under_an_old_name_is_refused(plan: Planned) -> None:
    """etcd #3504, #10254: a member that has forgotten its votes and what it acknowledged may not take part again."""
    cluster = plan(flags=QUICK).start()
    forgetful = cluster["n3"]
    forgetful.client.put(b"a", b"1")
    forgetful.stop()
    shutil.rmtree(forgetful.data)
    for state in ("existing", "new"):
        forgetful.start(f"--initial-cluster-state={state}")
        assert forgetful.wait_exit() == 1
        assert "has already been bootstrapped" in forgetful.reason()
        assert not (forgetful.data / "member" / "wal").exists()
    assert cluster["n1"].client.get(b"a") == b"1"
    check_agreement([cluster["n1"], cluster["n2"]])


def test_the_disk_of_another_cluster_is_not_served_and_does_no_harm(plan: Planned) -> None:
    cluster = plan(flags=QUICK, token="theirs")
    stranger = cluster["n3"]
    stranger.start().wait_said("starting an etcd server")
    stranger.kill()
    for member in cluster.members:
        member.flags = [flag.replace("theirs", "ours") for flag in member.flags]
    ours = [cluster["n1"], cluster["n2"]]
    for member in ours:
        member.start()
    for member in ours:
        member.wait_ready()
    stranger.start()
    line = stranger.wait_said("another cluster")
    assert json.loads(line)["level"] in ("warn", "error")
    ours[0].wait_said("another cluster")
    assert "ready to serve" not in stranger.said()
    assert stranger.is_running
    term = ours[0].client.status().raftTerm
    for number in range(20):
        ours[number % 2].client.put(b"a", b"%d" % number)
    assert ours[0].client.status().raftTerm == term
    check_agreement(ours)


@pytest.mark.parametrize("what", ["wal", "database"])
def test_half_a_data_directory_is_refused(plan: Planned, what: str) -> None:
    """Log and database belong together: with one of them gone the member would make up what it has promised."""
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
