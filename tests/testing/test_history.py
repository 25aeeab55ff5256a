"""Recorded histories: real ones are linearizable, also under faults; a stale read is found."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

import tercet
from tercet.testing import Cluster, History, HistoryViolation, check_linearizable
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(3, config={"heartbeat_interval": 50, "election_timeout": 500}) as started:
        yield started


def test_what_clients_do_while_the_leader_dies_is_linearizable(cluster: Cluster) -> None:
    history = History()
    ended = threading.Event()

    def work(number: int) -> None:
        with tercet.Client(cluster.endpoints, timeout=10) as client:
            recorded = history.record(client)
            for step in range(200):
                try:
                    if step % 3 == 0:
                        recorded.put("shared", f"{number}.{step}")
                    elif step % 3 == 1:
                        recorded.get("shared")
                    else:
                        recorded.put_if_absent(f"key{step // 20}", f"{number}.{step}")
                except tercet.TercetError:
                    pass
                if ended.is_set():
                    return

    workers = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for worker in workers:
        worker.start()
    wait_until(lambda: len(history.operations) > 30, "the clients work")
    with cluster.leader().kill():
        cluster.leader()
    ended.set()
    for worker in workers:
        worker.join(60)
    assert len(history.operations) > 30
    check_linearizable(history)


def test_a_lost_answer_may_have_happened(cluster: Cluster) -> None:
    history = History()
    with tercet.Client(cluster.endpoints, retry=tercet.Retry.OFF) as client:
        recorded = history.record(client)
        recorded.put("lost", "1")
        for after_commit, value in ((True, "2"), (False, "3")):
            cluster.fail_next("Put", after_commit=after_commit)
            with pytest.raises(tercet.TercetError):
                recorded.put("lost", value)
        assert recorded.get("lost").text() == "2"
        assert recorded.replace("lost", "2", "4")
        assert recorded.delete("lost")
        assert recorded.get("lost") is None
    check_linearizable(history)


def test_a_stale_read_is_found(cluster: Cluster) -> None:
    cluster.reset()
    stale = cluster.followers()[0]
    with cluster.isolate(stale), tercet.Client(stale.endpoints) as other:
        with tercet.Client(cluster.leader().endpoints) as leader:
            cluster.history.record(leader).put("stale", "1")
        cluster.history.record(other).get("stale", serializable=True)
    assert "put stale 1" in cluster.history.text
    with pytest.raises(HistoryViolation, match="not linearizable"):
        check_linearizable(cluster.history)
