"""The same with an etcd of 3.6 or 3.7 (TEST_ETCD_NEWER) in the place of 3.5.1; and what 3.5.1 does not do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tercet.proto import rpc_pb2
from tests.mixed.conftest import Mix, disposed
from tests.mixed.mixture import check_same, make_leader, mixture
from tests.mixed.test_auth import add_user, call, log_in
from tests.mixed.test_joining import fill_log, names, remove, run
from tests.mixed.test_leases import (
    test_a_lease_outlives_a_change_of_the_leader_and_then_expires,
    test_a_lease_that_an_etcd_leader_expires_ends_on_all_members,
    test_every_member_renews_and_reports_leases_whichever_kind_leads,
)
from tests.mixed.test_one_history import test_a_member_that_was_down_catches_up_by_a_snapshot, test_any_member_can_lead
from tests.mixed.test_watches import test_both_kinds_deliver_the_same_events_over_a_change_of_the_leader
from tests.support.newer import needs_newer_etcd, newer_etcd
from tests.support.processes import TERCET, Cluster, Member, etcdctl, wait_until

pytestmark = needs_newer_etcd

__all__ = [  # collected here too, with the fixture of this module
    "test_a_lease_outlives_a_change_of_the_leader_and_then_expires",
    "test_a_lease_that_an_etcd_leader_expires_ends_on_all_members",
    "test_a_member_that_was_down_catches_up_by_a_snapshot",
    "test_any_member_can_lead",
    "test_both_kinds_deliver_the_same_events_over_a_change_of_the_leader",
    "test_every_member_renews_and_reports_leases_whichever_kind_leads",
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, bytecode: Path) -> Iterator[Cluster]:
    """One etcd of 3.6 or 3.7, e1, and two tercets, t1 and t2."""
    kinds = {"e1": newer_etcd(), "t1": TERCET, "t2": TERCET}
    made = mixture(tmp_path_factory.mktemp("newer"), kinds, bytecode=bytecode)
    with disposed(made):
        yield made.start()


def test_members_of_both_kinds_join_a_cluster_with_auth_as_learners_and_replace_it(mix: Mix) -> None:
    """Users, leases and keys are there from before; a tercet and an etcd join by a snapshot, each as a learner; e1 leaves."""
    cluster = mix({"e1": newer_etcd(), "t1": TERCET, "e2": newer_etcd()}, initial_members=["e1"])
    first, tercet, second = cluster.members
    first.start().wait_ready()
    call(first, "Lease/LeaseGrant", rpc_pb2.LeaseGrantRequest(ID=7, TTL=1000))
    call(first, "KV/Put", rpc_pb2.PutRequest(key=b"leased", lease=7))
    for user in ("root", "ann"):
        add_user(first, user, role=user)
    fill_log(first)
    for asked, joining in ((first, tercet), (tercet, second)):
        join_as_learner(asked, joining)
    call(tercet, "Auth/AuthEnable", rpc_pb2.AuthEnableRequest())
    root = log_in(second, "root")
    for member in cluster.members:
        put_with_token(member, root)
        assert call(member, "Auth/UserList", rpc_pb2.AuthUserListRequest(), root).users == ["ann", "root"]
    for member in (first, second):
        put_with_token(member, log_in(tercet, "root"))
    call(second, "Auth/AuthDisable", rpc_pb2.AuthDisableRequest(), root)
    check_same(cluster.members)
    make_leader(cluster, tercet)
    remove(tercet, first)
    assert names(cluster, second) == {"t1", "e2"}
    check_same([tercet, second])


def put_with_token(member: Member, token: str) -> None:
    """A token that another member has issued. An etcd that has not applied its entry yet refuses it."""
    put = rpc_pb2.PutRequest(key=member.name.encode())
    wait_until(lambda: call(member, "KV/Put", put, token), f"{member.name} knows the token", seconds=20)


def join_as_learner(asked: Member, joining: Member) -> None:
    run(asked, "member", "add", joining.name, "--learner", f"--peer-urls=http://127.0.0.1:{joining.peer_port}")
    joining.start().wait_said("ready to serve client requests")
    learner_id = wait_until(lambda: joining.client.status().header.member_id, "the learner answers")
    assert joining.client.status().isLearner
    promote = ("member", "promote", f"{learner_id:x}")
    wait_until(lambda: etcdctl([asked], *promote).returncode == 0, f"{joining.name} is in sync and promoted")
    joining.wait_ready()
