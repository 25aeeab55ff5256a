"""The days after the first start of a cluster of upstream etcd; the tests run in order."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.hosts import days_after, outages
from tests.hosts.observations import wait_until
from tests.hosts.session import ENVIRONMENT_SH, Operator, release_tarball
from tests.support.newer import NEXT_MINOR_VARIABLE, needs_next_minor

pytestmark = [pytest.mark.timeout(600, func_only=True), pytest.mark.long]


def test_apply_makes_three_healthy_members(operator: Operator) -> None:
    tarball = release_tarball(operator.directory)
    operator.write("environment.sh", ENVIRONMENT_SH)
    operator.deploy("init", "--from", "environment.sh")
    operator.set("ssh", {"connect_timeout": 3})
    operator.edit(lambda settings: settings.update(engine={"kind": "etcd", "source": tarball.name}))
    operator.deploy("apply", "--yes")
    assert len(operator.healthy_lines()) == 3


def test_certificates_and_ca_are_rotated_without_downtime(operator: Operator) -> None:
    days_after.rotate_the_certificates_and_the_ca(operator)


def test_a_member_without_its_disk_is_replaced(operator: Operator) -> None:
    days_after.replace_a_member_that_lost_its_disk(operator)


def test_a_cluster_shrinks_and_grows(operator: Operator) -> None:
    days_after.shrink_to_two_and_grow_to_three(operator)


def test_space_is_freed_and_a_snapshot_saved(operator: Operator) -> None:
    days_after.free_space_and_back_up(operator)


def test_the_hosts_snapshots_are_encrypted_and_stored_in_a_bucket(operator: Operator) -> None:
    days_after.back_up_on_the_hosts(operator)


def test_a_snapshot_is_restored_on_all_hosts(operator: Operator) -> None:
    days_after.restore_a_snapshot(operator)


def test_a_restore_is_finished_after_a_power_cut(operator: Operator) -> None:
    days_after.cut_the_power_during_a_restore(operator)


def test_a_lost_majority_is_recovered(operator: Operator) -> None:
    days_after.recover_from_a_lost_majority(operator)


def test_a_majority_that_was_left_behind_is_fenced(operator: Operator) -> None:
    days_after.fence_the_majority_that_was_left_behind(operator)


def test_expired_certificates_are_renewed(operator: Operator) -> None:
    outages.renew_certificates_that_have_expired(operator)


def test_a_full_database_gets_room_again(operator: Operator) -> None:
    outages.make_room_in_a_full_database(operator)


def test_a_dead_host_does_not_prevent_changes_of_the_others(operator: Operator) -> None:
    outages.change_the_others_while_a_host_is_dead(operator)


def test_each_command_is_finished_after_a_power_cut(operator: Operator) -> None:
    tarball = release_tarball(operator.directory, "v3.5.1", build="again")
    days_after.cut_the_power_in_each_verb(operator, other_release={"source": tarball.name})


def test_each_change_of_the_membership_is_finished_after_a_power_cut(operator: Operator) -> None:
    days_after.cut_the_power_in_changes_of_the_membership(operator)


@needs_next_minor
def test_the_next_minor_version_is_activated_member_by_member(operator: Operator) -> None:
    program = Path(os.environ[NEXT_MINOR_VARIABLE])
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    assert version.startswith("3.6."), f"{NEXT_MINOR_VARIABLE} is etcd {version}; the step from 3.5 is to 3.6"
    tarball = release_tarball(operator.directory, f"v{version}", programs=program.parent)
    operator.set("engine", {"source": tarball.name})
    days_after.upgrade_member_by_member(operator)
    assert {status["version"] for status in operator.statuses().values()} == {version}
    refused = operator.deploy("rollback", "--yes", exit_code=1)
    assert "every member runs 3.6" in refused
    env = operator.client_environment()
    operator.run(str(program.with_name("etcdctl")), "downgrade", "enable", "3.5", env=env)
    wait_until(lambda: operator.deploy("rollback", "--dry-run", exit_code=None).exit_code == 0, seconds=60)
    operator.deploy("rollback", "--yes", timeout=300)
    assert {status["version"] for status in operator.statuses().values()} == {"3.5.1"}
    assert len(operator.healthy_lines(env)) == 3
