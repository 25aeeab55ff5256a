"""A member that restarts with a damaged database, and a sound log: what it had acknowledged is served again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.cluster.conftest import Planned
from tests.cluster.test_corruption import VALUE, database
from tests.support.processes import QUICK, Cluster, Member, wait_until

WRITES = 60


@pytest.fixture
def cluster(plan: Planned) -> Cluster:
    """Three members whose logs begin after a snapshot, with `VALUE` in the database of each."""
    cluster = plan(flags=(*QUICK, "--snapshot-count=20", "--snapshot-catchup-entries=5")).start()
    cluster["n1"].client.put(b"key", VALUE)
    for number in range(WRITES):
        cluster["n1"].client.put(b"k%03d" % number, b"%d" % number)
    for member in cluster.members:
        wait_until(lambda member=member: VALUE in database(member).read_bytes(), f"{member.name} has committed it")  # type: ignore[misc]
        member.wait_said("compacted Raft logs")
    return cluster


def damage(member: Member) -> None:
    """Change one byte in each copy of `VALUE` in the file: later commits leave old pages behind."""
    data = database(member).read_bytes()
    assert VALUE in data
    database(member).write_bytes(data.replace(VALUE, VALUE.replace(b"value", b"valve", 1)))


def truncate(member: Member) -> None:
    with database(member).open("r+b") as file:
        file.truncate(3 * 4096)


def garble(member: Member) -> None:
    """The header is overwritten."""
    with database(member).open("r+b") as file:
        file.write(bytes(8192))


def served(member: Member) -> bool:
    kvs = member.client.range(b"k", prefix=True, serializable=True).kvs
    return len(kvs) >= WRITES + 1 and {kv.key: kv.value for kv in kvs}[b"key"] == VALUE


HARMS: dict[str, Callable[[Member], None]] = {"n1": damage, "n2": truncate, "n3": garble}


def test_a_restarted_member_replaces_its_damaged_database_by_the_leaders(cluster: Cluster) -> None:
    """Whichever member it is: the first leader too. None serves anything else on the way."""
    for name, harm in HARMS.items():
        victim, other = cluster[name], cluster["n2" if name == "n1" else "n1"]
        victim.stop()
        harm(victim)
        wait_until(lambda other=other: other.client.put(b"while one is down", b"1", timeout=5), "the others go on")  # type: ignore[misc]
        victim.start()
        victim.wait_said("to replace it by the leader's database")
        victim.wait_said("database by one of index")
        victim.wait_ready()
        wait_until(lambda victim=victim: victim.client.put(b"through it", b"1", timeout=5), "it serves clients")  # type: ignore[misc]
        wait_until(lambda victim=victim: served(victim), "it serves all that it had acknowledged")  # type: ignore[misc]
        assert not list(database(victim).parent.glob("*.damaged")), "the damaged file is removed when it is replaced"
        victim.stop()
        victim.start().wait_ready()
        wait_until(lambda victim=victim: served(victim), "the new database is there after a restart")  # type: ignore[misc]


def test_without_another_member_it_does_not_start_and_its_files_stay(cluster: Cluster) -> None:
    for member in cluster.members:
        member.stop()
    victim = cluster["n2"]
    damage(victim)
    before = database(victim).read_bytes()
    victim.start()
    assert victim.wait_exit(60) == 1
    reason = victim.reason()
    assert "wrong checksum of revision 2.0, key b'key'" in reason
    assert "start the other members" in reason
    assert "etcdctl member remove" in reason
    assert database(victim).read_bytes() == before
