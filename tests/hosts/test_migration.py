"""A running cluster of upstream etcd becomes one of tercet, under a writer, and goes back; the tests run in order."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.hosts.days_after import cut_power_after, under_writes
from tests.hosts.network import HOSTS
from tests.hosts.session import ENVIRONMENT_SH, Operator, release_tarball
from tests.support.newer import VARIABLE, needs_newer_etcd

pytestmark = [pytest.mark.timeout(600, func_only=True), pytest.mark.long]


def test_apply_makes_three_members_of_etcd(operator: Operator) -> None:
    tarball = release_tarball(operator.directory)
    operator.write("environment.sh", ENVIRONMENT_SH)
    operator.deploy("init", "--from", "environment.sh")
    operator.set("ssh", {"connect_timeout": 3})
    operator.edit(lambda settings: settings.update(engine={"kind": "etcd", "source": tarball.name}))
    operator.deploy("apply", "--yes")
    assert len(operator.healthy_lines()) == 3


def programs(operator: Operator) -> set[str]:
    return {operator.unit(host)["ExecStart"].split("path=")[1].split(" ")[0] for host in HOSTS}


def test_etcd_is_replaced_by_tercet(operator: Operator) -> None:
    operator.edit(lambda settings: settings.update(engine={"kind": "tercet"}))
    refused = operator.deploy("apply", "--yes", exit_code=1)
    assert "tercet deploy migrate" in refused
    first = next(host for host in HOSTS if host != operator.leader())
    cut_power_after(operator, first, "move the earlier data aside", "deploy", "migrate", "--yes")
    with under_writes(operator):
        operator.deploy("migrate", "--yes", timeout=400)
    assert len(operator.healthy_lines()) == 3
    assert programs(operator) == {"/opt/tercet/current/bin/tercet"}
    assert "every member runs tercet" in operator.deploy("migrate", "--yes")
    assert "nothing to do" in operator.deploy("plan").output.lower()


@needs_newer_etcd
def test_tercet_is_replaced_by_etcd_after_a_power_cut(operator: Operator) -> None:
    program = Path(os.environ[VARIABLE])
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    tarball = release_tarball(operator.directory, f"v{version}", programs=program.parent)
    operator.edit(lambda settings: settings.update(engine={"kind": "etcd", "source": tarball.name}))
    if not version.startswith("3.7."):
        assert "not added" in operator.deploy("migrate", "--yes", exit_code=1)
        return
    first = next(host for host in HOSTS if host != operator.leader())
    cut_power_after(operator, first, "add as learner", "deploy", "migrate", "--yes")
    with under_writes(operator):
        operator.deploy("migrate", "--yes", timeout=400)
    assert len(operator.healthy_lines()) == 3
    assert programs(operator) == {"/opt/etcd/current/bin/etcd"}
    assert "nothing to do" in operator.deploy("plan").output.lower()
