"""Recorded histories: real ones are linearizable, also under faults; a stale read is found."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from typing import Any

import pytest

import tercet
from tercet.testing import Cluster, History, HistoryViolation, LostUpdate, assert_no_lost_updates, check_linearizable
from tercet.testing.history import RecordedClient
from tests.support.waiting import scaled, wait_until


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(3, config={"heartbeat_interval": 50, "election_timeout": 500}) as started:
        yield started


FAULTS: dict[str, Callable[[Cluster], AbstractContextManager[object]]] = {
    "kill": lambda cluster: cluster.leader().kill(),
    "pause": lambda cluster: cluster.leader().pause(),
    "partition": lambda cluster: cluster.isolate(cluster.leader()),
    "one way": lambda cluster: cluster.partition(cluster.leader(), cluster.followers(), oneway=True),
    "leader change": lambda cluster: nullcontext(cluster.move_leader()),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_clients_do_while_the_leader_fails_is_linearizable(cluster: Cluster, fault: str) -> None:
    """Also for the clients of that leader, whose writes may or may not have happened."""
    cluster.reset()
    history = History()
    ended = threading.Event()

    def answered() -> int:
        return sum(operation.returned is not None for operation in history.operations)

    def work(number: int) -> None:
        endpoints = [*cluster.endpoints[number:], *cluster.endpoints[:number]]
        with tercet.Client(endpoints, timeout=10) as client:
            recorded = history.record(client)
            step = 0
            while not ended.wait(0.01):
                step += 1
                with suppress(tercet.TercetError):
                    one_step(recorded, step, f"{number}.{step}")

    with ThreadPoolExecutor() as pool:
        workers = [pool.submit(work, number) for number in range(3)]
        try:
            wait_until(lambda: answered() > 30, "the clients work")
            before = cluster.leader()
            with FAULTS[fault](cluster):
                wait_until(lambda: cluster.leader() is not before or fault == "leader change", "another member leads")
                during = answered()
                wait_until(lambda: answered() > during + 15, "the clients go on")
            after = answered()
            wait_until(lambda: answered() > after + 15, "the clients go on afterwards")
        finally:
            ended.set()
        for worker in workers:
            worker.result(scaled(60))
    check_linearizable(history)


def one_step(client: RecordedClient, step: int, value: str) -> None:
    match step % 5:
        case 0:
            client.delete("shared")
        case 1:
            client.put("shared", value)
        case 2:
            found = client.get("shared")
            if found is not None:
                client.replace("shared", found.value, f"{value}, seen {found.text()}"[:40])
        case 3:
            client.put_if_absent(f"key{step // 20}", value)
        case _:
            client.get("shared")


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


def increment(client: Any, key: str) -> Callable[[], Any]:
    """Reads a counter; the write is a step of its own."""
    found = client.get(key)
    return lambda: client.put(key, str(int(found.text()) + 1 if found else 1))


def test_an_update_over_one_that_was_not_read_is_lost(cluster: Cluster) -> None:
    cluster.reset()
    history = History()
    with tercet.Client(cluster.endpoints) as client:
        one, other = history.record(client), history.record(client)
        increment(one, "counter")()
        first, second = increment(one, "counter"), increment(other, "counter")
        second()
        assert_no_lost_updates(history)
        first()
        check_linearizable(history)
        with pytest.raises(LostUpdate, match="an update is lost") as lost:
            assert_no_lost_updates(history)
        assert [line.partition("client ")[2][0] for line in str(lost.value).splitlines() if "client " in line] == [
            "1",
            "1",
            "2",
        ]
        one.replace("counter", "2", "3")
        assert [operation.revision for operation in history.operations[-1:]] == [5]


@pytest.mark.parametrize("overwritten", ["put_if_absent", "delete"])
def test_an_update_by_any_kind_of_write_can_be_lost(cluster: Cluster, overwritten: str) -> None:
    cluster.reset()
    history = History()
    with tercet.Client(cluster.endpoints) as client:
        one, other = history.record(client), history.record(client)
        if overwritten == "delete":
            one.put("key", "0")
            write = increment(one, "key")
            assert other.delete("key")
        else:
            write = increment(one, "key")
            assert other.put_if_absent("key", "5")
        write()
        with pytest.raises(LostUpdate):
            assert_no_lost_updates(history)


def test_updates_one_after_the_other_are_not_lost(cluster: Cluster) -> None:
    cluster.reset()
    history = History()
    with tercet.Client(cluster.endpoints) as client:
        one, other = history.record(client), history.record(client)
        for _ in range(3):
            increment(one, "counter")()
            increment(other, "counter")()
        one.delete("counter")
        increment(other, "counter")()  # it found nothing, after versions that are gone
        one.put("counter", "of nobody's reading")
        stale = one.get("counter").text()
        other.put("counter", "8")
        assert not one.replace("counter", stale, "9")
    assert_no_lost_updates(history)


def test_a_put_that_was_sent_twice_is_not_lost_to_itself(cluster: Cluster) -> None:
    cluster.reset()
    history = History()
    with tercet.Client(cluster.endpoints, retry=tercet.Retry.ALWAYS) as client:
        one, other = history.record(client), history.record(client)
        one.put("twice", "0")
        write = increment(one, "twice")
        cluster.fail_next("Put", after_commit=True)
        revision = write().header.revision
        assert revision == 4, "it was written twice"
        operations = history.operations
        assert other.get("twice").mod_revision == revision
        seen = replace(history.operations[-1], mod_revision=revision - 1)  # as if it had been read between the two
    assert_no_lost_updates([*operations, seen])
