"""Adding, promoting, moving and removing members of a serving cluster, with etcdctl."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tests.cluster.conftest import Planned
from tests.cluster.writers import Load, check_agreement
from tests.support.processes import QUICK, TERCET, Cluster, Member, etcdctl, free_port, listening, wait_until

SMALL_LOG = (*QUICK, "--snapshot-count=100", "--snapshot-catchup-entries=20")


def added_member(cluster: Cluster, name: str, flags: Sequence[str]) -> Member:
    """A member to be added, with the command line that `etcdctl member add` prints."""
    first = cluster.members[0]
    member = Member(name, cluster.directory, [], free_port(), free_port(), program=TERCET, bytecode=first.bytecode)
    known = [*cluster.running, member]
    member.flags = [
        *listening(member),
        "--initial-cluster=" + ",".join(f"{one.name}=http://127.0.0.1:{one.peer_port}" for one in known),
        "--initial-cluster-state=existing",
        *flags,
    ]
    cluster.members.append(member)
    return member


def control(cluster: Cluster, *words: str) -> str:
    done = etcdctl(cluster.running[:1], *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def ids(cluster: Cluster) -> dict[str, str]:
    """Hexadecimal ids by name."""
    listed = json.loads(control(cluster, "member", "list", "-w", "json"))["members"]
    return {one.get("name", ""): f"{one['ID']:x}" for one in listed}


def test_a_learner_is_added_promoted_and_becomes_leader(plan: Planned) -> None:
    cluster = plan(["n1"], SMALL_LOG).start()
    with Load(cluster, writers=2) as load:
        load.wait_for(150)  # more entries than the log keeps, so the learner needs a snapshot
        learner = added_member(cluster, "n2", SMALL_LOG)
        control(cluster, "member", "add", "n2", "--learner", f"--peer-urls=http://127.0.0.1:{learner.peer_port}")
        learner.start().wait_said("ready to serve")
        learner.wait_said("applied snapshot")
        refused = etcdctl([learner], "put", "a", "1")
        assert "rpc not supported for learner" in refused.stderr
        assert learner.http("/readyz")[0] == 503
        assert learner.http("/livez")[0] == 200
        promote = ("member", "promote", ids(cluster)["n2"])
        wait_until(lambda: etcdctl(cluster.members[:1], *promote).returncode == 0, "it is promoted")
        learner.wait_ready()
        load.wait_for(20)
    load.check(cluster)
    # The first member is removed; the other one has all data.
    first = cluster["n1"]
    control(cluster, "move-leader", ids(cluster)["n2"])
    wait_until(lambda: cluster.leader() is learner, "the added member leads")
    remove = ("member", "remove", ids(cluster)["n1"])
    # The removal is rejected until the remaining member has been connected for five seconds.
    wait_until(lambda: etcdctl([learner], *remove).returncode == 0, "the first one is removed")
    assert first.wait_exit() == 0
    assert "permanently removed" in first.said()
    learner.client.put(b"after", b"1")
    load.check(cluster)
    # A removed member cannot rejoin with its old data directory.
    first.start()
    assert first.wait_exit() == 0
    assert "Traceback" not in first.said()


def test_members_join_one_by_one_and_one_changes_its_address(plan: Planned) -> None:
    cluster = plan(["n1"], SMALL_LOG).start()
    for name in ("n2", "n3"):
        member = added_member(cluster, name, SMALL_LOG)
        wait_until(
            lambda member=member: (
                not etcdctl(
                    cluster.members[:1], "member", "add", member.name, f"--peer-urls=http://127.0.0.1:{member.peer_port}"
                ).returncode
            ),
            f"{name} is added",
        )
        member.restart()
        cluster["n1"].client.put(name.encode(), b"1")
    check_agreement(cluster.members)
    # n3 gets another address: update the member, then restart it there.
    moved = cluster["n3"]
    old, moved.peer_port = moved.peer_port, free_port()
    control(cluster, "member", "update", ids(cluster)["n3"], f"--peer-urls=http://127.0.0.1:{moved.peer_port}")
    moved.stop()
    moved.flags = [flag.replace(f":{old}", f":{moved.peer_port}") for flag in moved.flags]
    moved.restart()
    moved.client.put(b"moved", b"1")
    cluster["n2"].kill()  # so that a quorum needs the moved member
    cluster["n1"].client.put(b"with n3", b"1")
    cluster["n2"].restart()
    check_agreement(cluster.members)
    # Restart all of them, with the flags of their first start.
    for member in cluster.members:
        member.kill()
    cluster.start()
    assert cluster["n2"].client.get(b"with n3") == b"1"
    check_agreement(cluster.members)
