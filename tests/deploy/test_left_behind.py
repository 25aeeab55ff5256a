"""Members that a recovery left behind: the record, who is stopped at the first contact, and that none is taken for a member."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import pytest

from tercet.cli.deploy.view import status_remarks
from tercet.deploy.cluster.cluster import Cluster
from tercet.deploy.members.left_behind import LeftBehind
from tercet.deploy.members.members import Members, MemberStatus
from tercet.deploy.run.events import Event
from tercet.deploy.run.executor import DeployError
from tercet.deploy.run.fencing import fence, require_current
from tercet.deploy.ssh.host_error import HostError
from tercet.deploy.ssh.remote import Completed, Host
from tercet.errors import ConfigError
from tests.deploy.clusters import HOSTS, cluster_of
from tests.deploy.scripted_host import ScriptedHost
from tests.deploy.test_rolling import ScriptedMembers

ID = "20260102T000000Z"


def recovered(directory: Path, *left: str) -> Cluster:
    """A cluster of node1 to node3 whose record has the hosts `left`."""
    cluster = cluster_of(directory)
    LeftBehind(cluster).add([cluster.host(name) for name in left], "recovery", ID)
    return cluster


class Rejoined(ScriptedHost):
    """A host with the file that says that it has joined again."""

    async def run(self, command: str, **options: object) -> Completed:
        done = await super().run(command, **options)
        return Completed(0, b"rejoined\n", b"") if f"/var/lib/etcd/rejoined-{ID}" in command else done


class Contact:
    """One command that reaches `hosts`; the members `started` are in the member list of the recovered cluster."""

    def __init__(self, cluster: Cluster, *hosts: ScriptedHost, started: tuple[str, ...] = ()) -> None:
        members = ScriptedMembers(cluster, {}, leader="node1")
        members.left_behind = LeftBehind.read(cluster)
        members.unstarted = {spec.name for spec in cluster.hosts} - set(started)
        self.events: list[Event] = []
        found = {host.name: cast(Host, host) for host in hosts}
        asyncio.run(fence(cluster, found, cast(Members, members), self.events.append))
        self.stopped = [host.name for host in hosts if any("systemctl disable etcd.service" in one for one in host.commands)]
        self.left = [entry.name for entry in LeftBehind.read(cluster)]


def test_the_first_command_that_reaches_them_stops_them(tmp_path: Path) -> None:
    cluster = recovered(tmp_path, "node2", "node3")
    first = Contact(cluster, ScriptedHost("node1"), ScriptedHost("node2"), started=("node1",))
    assert (first.stopped, first.left) == (["node2"], ["node2", "node3"])
    assert [(event.host, event.detail) for event in first.events] == [
        ("node2", f"left behind by the recovery of {ID}: its data is that of the cluster before")
    ]
    again = Contact(cluster, ScriptedHost("node2"), ScriptedHost("node3"))
    assert again.stopped == ["node2", "node3"], "at each contact: somebody may have started it again"


def test_an_outdated_record_stops_no_member_that_has_joined_again(tmp_path: Path) -> None:
    cluster = recovered(tmp_path, "node2", "node3")
    found = Contact(cluster, Rejoined("node2"), ScriptedHost("node3"), started=("node1", "node3"))
    assert (found.stopped, found.left) == ([], [])
    assert not LeftBehind.read(cluster).path.exists()


def test_nobody_is_asked_without_a_record(tmp_path: Path) -> None:
    hosts = [ScriptedHost(f"node{number}") for number in (1, 2, 3)]
    assert Contact(cluster_of(tmp_path), *hosts).stopped == []
    assert [host.commands for host in hosts] == [[], [], []]


def test_it_is_neither_asked_nor_started(tmp_path: Path) -> None:
    cluster = recovered(tmp_path, "node2")
    members = Members(cluster, {spec.name: cast(Host, ScriptedHost(spec.name)) for spec in cluster.hosts})
    with pytest.raises(HostError, match=r"node2: ask: left behind by the recovery .*tercet deploy member add node2"):
        members.member("node2")
    assert members.member("node1")
    with pytest.raises(DeployError, match=r"^node2: plan: left behind by the recovery"):
        require_current(["node1", "node2"], members.left_behind)
    require_current(["node1", "node3"], members.left_behind)


def test_another_host_of_its_name_is_not_the_one_left_behind(tmp_path: Path) -> None:
    recovered(tmp_path, "node2")
    moved = cluster_of(tmp_path, hosts=HOSTS.replace("10.0.0.2", "10.0.0.9"))
    record = LeftBehind.read(moved)
    assert record.of("node2") is None
    assert [entry.peer_url for entry in record] == ["https://10.0.0.2:2380"]


def test_an_unreadable_record_is_an_error(tmp_path: Path) -> None:
    cluster = recovered(tmp_path, "node2")
    LeftBehind.read(cluster).path.write_text("{}")
    with pytest.raises(ConfigError, match=r"cluster\.left-behind\.json: unreadable record"):
        Members(cluster, {})


@pytest.mark.parametrize(("unit", "advice"), [("", "keep it off the network"), ("active/running", "stops it (active/running)")])
def test_status_says_what_to_do(tmp_path: Path, unit: str, advice: str) -> None:
    entry = LeftBehind.read(recovered(tmp_path, "node2")).of("node2")
    assert entry is not None
    status = MemberStatus("node2", "10.0.0.2", unit, "", 0, "", 0, False, False, 0, 0, None, left_behind=entry.text)
    [remark] = status_remarks([status], 30)
    assert remark.startswith(f"node2: left behind by the recovery of {ID}")
    assert advice in remark
