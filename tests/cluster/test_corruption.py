"""A stored value is damaged on the disk of one member: it does not serve it, and replaces its database by the leader's."""

from __future__ import annotations

from pathlib import Path

import grpc  # type: ignore[import-untyped]
import pytest

from tests.cluster.conftest import Planned
from tests.support.client import Client
from tests.support.processes import QUICK, Cluster, Member, etcdctl, wait_until

VALUE = b"the value that changes on the disk|" * 3


def database(member: Member) -> Path:
    (path,) = (member.data / "member" / "snap" / "db").glob("*.lmdb")
    return path


def damage(member: Member) -> None:
    """Change one byte of `VALUE` in the database file, in place, while the member runs or is stopped."""
    data = database(member).read_bytes()
    at = data.index(VALUE)
    with database(member).open("r+b") as file:
        file.seek(at + 10)
        file.write(b"!")


@pytest.fixture
def cluster(plan: Planned) -> Cluster:
    """Three members, with `VALUE` in the database of each."""
    cluster = plan(flags=QUICK).start()
    cluster["n1"].client.put(b"key", VALUE)
    for member in cluster.members:
        wait_until(lambda member=member: VALUE in database(member).read_bytes(), f"{member.name} has committed it")  # type: ignore[misc]
    return cluster


def test_a_damaged_value_is_not_served_until_the_member_has_replaced_its_database(cluster: Cluster) -> None:
    victim = cluster["n2"]
    revision = victim.client.range(b"key", serializable=True).kvs[0].mod_revision
    damage(victim)

    def refusal() -> tuple[grpc.StatusCode, str] | None:
        try:
            victim.client.get(b"key", serializable=True)
        except Client.Error as error:
            return error.code(), error.details()
        return None  # read from the buffer of a commit that has just ended

    assert wait_until(refusal, "the read fails") == (grpc.StatusCode.DATA_LOSS, "etcdserver: corrupt cluster")
    line = victim.wait_said("found data corruption")
    assert str(database(victim)) in line
    assert f"wrong checksum of revision {revision}.0, key b'key'" in line

    def served() -> bytes | None:
        try:
            return victim.client.get(b"key", serializable=True)
        except Client.Error:
            return None

    assert wait_until(served, "the member serves the value again") == VALUE
    victim.wait_said("replaced the damaged database")

    def alarms() -> str:
        return etcdctl(cluster.members, "alarm", "list").stdout

    wait_until(lambda: not alarms(), "the alarm is withdrawn")
    for member in cluster.members:
        assert member.is_running
        member.client.put(b"other", b"1")


def test_the_scrub_finds_a_damaged_value_that_is_not_read(cluster: Cluster) -> None:
    victim = cluster["n3"]
    damage(victim)
    victim.wait_said("found data corruption", seconds=30)
    assert victim.is_running


def test_a_member_whose_log_is_complete_rebuilds_a_damaged_database_from_it(cluster: Cluster) -> None:
    victim = cluster["n2"]
    victim.stop()
    damage(victim)
    victim.start()
    victim.wait_said("rebuilding the database from the write-ahead log")
    wait_until(lambda: victim.client.get(b"key", serializable=True) == VALUE, "the member serves the value again")
    hashes = {member.client.hash_kv(0).hash for member in cluster.members}
    assert len(hashes) == 1
