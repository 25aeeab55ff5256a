"""A cluster grows from one member to five, and shrinks to one that was not there at the beginning, while clients write."""

from __future__ import annotations

from tests.cluster.conftest import Planned
from tests.cluster.test_membership import added_member
from tests.cluster.writers import Load
from tests.support.processes import QUICK, Cluster, Member, etcdctl, wait_until

# The strict checks refuse a change until every member has been connected for 5 s; the order of the changes here is safe.
FLAGS = (*QUICK, "--strict-reconfig-check=false", "--snapshot-count=100", "--snapshot-catchup-entries=20")


def change(asked: list[Member], *words: str) -> None:
    """A change of the membership, repeated while the leader changes; a change that has been made meanwhile is enough."""

    def made() -> bool:
        done = etcdctl(asked, *words)
        return done.returncode == 0 or "already exist" in done.stderr or "member not found" in done.stderr

    wait_until(made, f"etcdctl {' '.join(words)}")


def join(cluster: Cluster, joining: Member) -> None:
    known = [*cluster.running, joining]
    peers = ",".join(f"{one.name}=http://127.0.0.1:{one.peer_port}" for one in known)
    joining.flags = [flag for flag in joining.flags if not flag.startswith("--initial-cluster=")] + [
        f"--initial-cluster={peers}"
    ]
    change(cluster.running, "member", "add", joining.name, f"--peer-urls=http://127.0.0.1:{joining.peer_port}")
    joining.restart()


def leave(cluster: Cluster, leaving: Member) -> None:
    leaving_id = leaving.client.status().header.member_id
    change([one for one in cluster.running if one is not leaving], "member", "remove", f"{leaving_id:x}")
    assert leaving.wait_exit() == 0


def test_d40_every_member_is_replaced_while_clients_write(plan: Planned) -> None:
    cluster = plan(["n1"], FLAGS).start()
    members = [cluster["n1"], *(added_member(cluster, name, FLAGS) for name in ("n2", "n3", "n4", "n5"))]
    with Load(cluster, writers=2) as load:
        load.wait_for(60)
        for joining in members[1:]:
            join(cluster, joining)
            load.wait_for(20)
        assert {len(member.client.members()) for member in members} == {5}
        for leaving in members[:-1]:
            leave(cluster, leaving)
            load.wait_for(20)
        assert [one.name for one in members[-1].client.members()] == ["n5"]
    load.check(cluster)
