"""A store over its quota: writes are refused with etcd's error; reads, deletes, compaction and defragmentation work."""

from __future__ import annotations

import time

import grpc  # type: ignore[import-untyped]
import pytest

from tests.cluster.conftest import Planned
from tests.cluster.writers import check_agreement
from tests.support.client import Client
from tests.support.processes import QUICK, Member, etcdctl, wait_until

NO_SPACE = "etcdserver: mvcc: database space exceeded"


def fill(member: Member, start: int, size: int = 100_000) -> None:
    for number in range(start, start + 400):
        member.client.put(b"k%d" % number, bytes(size))
        time.sleep(0.01)  # the size is measured at each commit of the backend, every 100 ms


def test_d27_the_nospace_alarm_survives_a_crash_and_is_cleared(plan: Planned) -> None:
    cluster = plan(flags=(*QUICK, "--quota-backend-bytes=4000000")).start()
    member = cluster["n1"]
    for stored in range(25):
        member.client.put(b"k%d" % stored, bytes(100_000))
    with pytest.raises(Client.Error) as refused:
        fill(member, 25)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused.value.details() == NO_SPACE

    def alarms() -> list[str]:
        return etcdctl(cluster.members, "alarm", "list").stdout.split("\n")[:-1]

    wait_until(alarms, "the alarm is raised")
    assert all(line.split()[-1] == "alarm:NOSPACE" for line in alarms())
    for one in cluster.members:
        wait_until(lambda one=one: "NOSPACE" in one.http("/health")[1], f"{one.name} has applied the alarm")  # type: ignore[misc]
        assert one.http("/health")[0] == 503
        assert one.http("/livez")[0] == 200
        assert one.http("/readyz")[0] == 200
        with pytest.raises(Client.Error) as small:  # on every member, for requests of any size
            one.client.put(b"tiny", b"1")
        assert small.value.details() == NO_SPACE
        assert one.client.get(b"k0") == bytes(100_000)

    # The alarm survives a crash.
    member.kill()
    member.start()
    wait_until(lambda: member.client.get(b"k1") == bytes(100_000), "the member serves again")
    assert member.http("/health")[0] == 503

    member.client.delete(b"k", prefix=True)
    member.client.compact(member.client.range(b"k").header.revision)
    for one in cluster.members:  # each member compacts on its own
        wait_until(lambda one=one: one.client.status().dbSizeInUse < 1_000_000, f"{one.name} has compacted")  # type: ignore[misc]
    full = {one.name: one.client.status().dbSize for one in cluster.members}
    done = etcdctl(cluster.members, "defrag")
    assert done.returncode == 0, done.stderr
    for one in cluster.members:
        assert one.client.status().dbSize < full[one.name] / 2
    assert etcdctl(cluster.members, "alarm", "disarm").returncode == 0
    assert alarms() == []
    for one in cluster.members:
        wait_until(lambda one=one: one.http("/health")[0] == 200, f"{one.name} is healthy again")  # type: ignore[misc]
        one.client.put(b"again", b"1")
    check_agreement(cluster.members)


def test_a_quota_of_a_few_pages_can_be_cleared(plan: Planned) -> None:
    """After a defragmentation every commit needs new pages; disarming the alarm must not exceed the quota again."""
    cluster = plan(["n1"], flags=(*QUICK, "--quota-backend-bytes=53248")).start()
    member = cluster.members[0]
    with pytest.raises(Client.Error) as refused:
        fill(member, 0, size=4096)
    assert refused.value.details() == NO_SPACE
    member.client.delete(b"k", prefix=True)
    member.client.compact(member.client.range(b"k").header.revision)
    for words in (["defrag"], ["alarm", "disarm"]):
        done = etcdctl(cluster.members, *words)
        assert done.returncode == 0, done.stderr
    time.sleep(0.3)  # commits of the backend, every 100 ms
    member.client.put(b"small", b"1")
