"""--force-new-cluster: the last member of a lost cluster goes on alone, and grows again."""

from __future__ import annotations

from tests.cluster.conftest import Planned
from tests.cluster.test_membership import added_member, control
from tests.cluster.writers import check_agreement
from tests.support.processes import QUICK


def test_the_last_member_goes_on_alone_and_grows_again(plan: Planned) -> None:
    cluster = plan(flags=QUICK).start()
    first, second, third = cluster.members
    for number in range(20):
        first.client.put(b"k%d" % number, b"v")
    for member in cluster.members:
        member.kill()
    first.restart("--force-new-cluster")
    assert "forced a new cluster" in first.said()
    assert [one.name for one in first.client.members()] == ["n1"]
    assert len(first.client.all(b"k")) == 20
    first.client.put(b"after", b"1")
    first.stop()
    first.restart()
    cluster.members = [first]
    joining = added_member(cluster, "n4", QUICK)
    control(cluster, "member", "add", "n4", f"--peer-urls=http://127.0.0.1:{joining.peer_port}")
    joining.restart()
    first.client.put(b"with n4", b"1")
    check_agreement([first, joining])
    assert [one.name for one in joining.client.members() if one.name] == [one.name for one in first.client.members()]
    # A member of the old cluster that comes back finds itself removed.
    second.start()
    assert second.wait_exit() == 0
    assert "permanently removed" in second.said()
    third.dispose()
    joining.stop()
