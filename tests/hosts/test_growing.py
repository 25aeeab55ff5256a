"""A cluster of one member grows to three and five and shrinks to one, under a writer: both engines, on five hosts."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hosts.days_after import under_writes
from tests.hosts.network import ALL_HOSTS
from tests.hosts.session import Operator, release_tarball

pytestmark = [pytest.mark.timeout(1200, func_only=True), pytest.mark.long]

FIRST, *OTHERS = ALL_HOSTS


@pytest.mark.parametrize("engine", ["tercet", "etcd"])
def test_one_member_grows_to_five_and_shrinks_to_one(operator_of_five: Operator, engine: str) -> None:
    operator = operator_of_five
    hosts = _start_one(operator, engine)
    for host in OTHERS:
        before = _invocations(operator)
        with under_writes(operator):
            hosts.append({"name": host, "address": ALL_HOSTS[host]})
            operator.edit(lambda settings: settings.update(hosts=hosts))
            operator.deploy("member", "add", host, "--yes")
        assert before.items() <= _invocations(operator).items(), "a member that was there restarted"
        assert len(operator.healthy_lines()) == len(hosts)
    while len(hosts) > 1:
        # The leader first, then the others; the one that stays is whichever is left.
        leader = operator.leader()
        with under_writes(operator):
            operator.deploy("member", "remove", leader, "--yes")
            hosts = [host for host in hosts if host["name"] != leader]
            operator.edit(lambda settings, left=hosts: settings.update(hosts=left))
        before = _invocations(operator)
        operator.deploy("apply", "--yes")  # the others take their backups at other times
        assert _invocations(operator) == before
        assert len(operator.healthy_lines()) == len(hosts)


def _start_one(operator: Operator, engine: str) -> list[dict[str, Any]]:
    """Deploy a cluster of the first host. Returns the hosts of its cluster file."""
    operator.write("environment.sh", f"NODE_IPS=({ALL_HOSTS[FIRST]})\nNODE_NAMES=({FIRST})\n")
    operator.deploy("init", "--from", "environment.sh")
    hosts: list[dict[str, Any]] = []
    operator.edit(lambda settings: hosts.extend(settings["hosts"]))
    if engine == "etcd":
        tarball = release_tarball(operator.directory)
        operator.edit(lambda settings: settings.update(engine={"kind": "etcd", "source": tarball.name}))
    operator.deploy("apply", "--yes")
    assert len(operator.healthy_lines()) == 1
    return hosts


def _invocations(operator: Operator) -> dict[str, str]:
    """Of the members that run."""
    units = {host: operator.unit(host) for host in ALL_HOSTS}
    return {host: unit["InvocationID"] for host, unit in units.items() if unit["ActiveState"] == "active"}
