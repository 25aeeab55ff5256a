"""Mixed clusters over mutual TLS, between members and to clients."""

from __future__ import annotations

from tercet.pki import ClusterCertificates
from tests.mixed.conftest import Mix
from tests.mixed.mixture import SNAPSHOT_ENTRIES, check_same, complaints, make_leader
from tests.mixed.story import Story
from tests.support.processes import ETCD, TERCET


def test_members_of_both_kinds_agree_over_tls(mix: Mix, certificates: ClusterCertificates) -> None:
    cluster = mix({"e1": ETCD, "t1": TERCET, "t2": TERCET}, certificates=certificates).start()
    story = Story(seed=9)
    for leader, away in (("t1", "e1"), ("e1", "t1")):
        make_leader(cluster, cluster[leader])
        story.send(cluster.members, 40)
        cluster[away].kill()
        for number in range(2 * SNAPSHOT_ENTRIES + 20):
            cluster[leader].client.put(b"many", b"%d" % number)
        cluster[away].restart()
        cluster[away].wait_said("applied snapshot")
        story.send(cluster.members, 20)
        check_same(cluster.members)
    assert complaints(cluster["e1"]) == []
