from __future__ import annotations

import sys
import urllib.request
from pathlib import Path

import pytest

from tercet.server.main import GC_THRESHOLDS
from tests.support.ports import free_ports
from tests.support.processes import TERCET, Member, etcdctl, listening
from tests.support.waiting import scaled

NOTING_COLLECTIONS = """
import gc, sys
from tercet.cli.tercet import main

def note(phase, info):
    if phase == "start" and info["generation"] == 2:
        print("collects all", file=sys.stderr, flush=True)

gc.callbacks.append(note)
main()
"""

LIMITED = """
import resource
from tercet.cli.tercet import main

resource.setrlimit(resource.RLIMIT_NOFILE, (300, 600))
main()
"""


def test_a_garbage_collection_of_new_objects_visits_few() -> None:
    """50,000 granted leases were 100,000 new objects, whose collection took 20 ms of a turn."""
    young, middle, _ = GC_THRESHOLDS
    assert young <= 10_000
    assert young * (middle + 1) <= 20_000


@pytest.mark.server_process
def test_a_member_that_is_ready_does_not_visit_all_objects_first(tmp_path: Path) -> None:
    """That took 20 ms of processor time, in which a learner promoted at once still answered that it is one."""
    client, peer = free_ports(2)
    member = Member("m", tmp_path, [], client, peer, program=[sys.executable, "-c", NOTING_COLLECTIONS])
    member.start(*listening(member), f"--initial-cluster=m=http://127.0.0.1:{peer}")
    try:
        member.wait_ready()
        member.stop()
        _, ready, later = member.said().partition("ready to serve client requests")
    finally:
        member.dispose()
    assert ready
    assert "collects all" not in later


@pytest.mark.server_process
def test_the_soft_limit_of_descriptors_is_raised_to_the_hard_one(tmp_path: Path) -> None:
    """As Go raises it: from a shell, 1,024 descriptors would be clients' limit."""
    client, peer = free_ports(2)
    member = Member("m", tmp_path, [], client, peer, program=[sys.executable, "-c", LIMITED])
    member.start(*listening(member), f"--initial-cluster=m=http://127.0.0.1:{peer}")
    try:
        member.wait_ready()
        with urllib.request.urlopen(f"http://{member.endpoint}/metrics", timeout=scaled(10)) as page:
            assert b"\nprocess_max_fds 600" in page.read()
    finally:
        member.dispose()


@pytest.mark.server_process
def test_a_member_that_has_more_learners_than_it_may_does_not_start(tmp_path: Path) -> None:
    """As etcd: --max-learners must be the same on all members, and a lower one would refuse what the others apply."""
    client, peer = free_ports(2)
    member = Member("m", tmp_path, [], client, peer, program=TERCET)
    flags = (*listening(member), f"--initial-cluster=m=http://127.0.0.1:{peer}")
    try:
        for most in (-1, 1, 0):  # with no learner, none, and the one that is added
            member.start(*flags, f"--max-learners={most}")
            if most == 1:
                member.wait_ready()
                added = etcdctl([member], "member", "add", "learner", "--learner", "--peer-urls=http://127.0.0.1:1")
                assert added.returncode == 0, added.stderr
                member.stop()
            else:
                assert member.wait_exit() == 1
                assert "membership: too many learner members in cluster" in member.said().splitlines()[-1]
        member.start(*flags).wait_ready()
    finally:
        member.dispose()
