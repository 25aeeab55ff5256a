"""The recipes in the synchronous client: blocks, iterators, leases as arguments, transactions in the caller's thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import tercet
from tercet import Client
from tercet.client.sync.recipes.stm import SyncSTM
from tests.client.conftest import Server
from tests.support.waiting import wait_until


@pytest.fixture
def client(server: Server, request: pytest.FixtureRequest) -> Iterator[Client]:
    with Client(server.endpoint, namespace=f"sync_{request.node.name}/") as made:
        yield made
        made.delete_prefix("")


def test_threads_exclude_each_other(client: Client) -> None:
    inside: list[int] = []
    tokens: list[int] = []

    def work(number: int) -> None:
        for _ in range(3):
            with client.lock("l") as lock:
                inside.append(number)
                tokens.append(lock.token)
                assert inside == [number]
                client.txn(then=[client.put_op("guarded", str(number))], guard=lock)
                inside.remove(number)

    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(work, number) for number in range(4)]:
            done.result()
    assert tokens == sorted(tokens)
    assert client.count("l/") == 0


def test_a_lease_is_passed_to_a_lock(client: Client) -> None:
    with client.lease(60) as lease, client.lock("l", lease=lease) as lock:
        assert lock.key == b"l/%x" % lease.id
        assert not client.lock("l").try_acquire()


def test_a_lost_lock_raises_at_the_end_of_its_block(client: Client) -> None:
    def hold() -> None:
        with client.lock("l", ttl_seconds=3) as lock:
            assert lock.lease is not None
            client.revoke_lease(lock.lease)
            wait_until(lambda: not lock.is_held, "the loss is found")

    with pytest.raises(tercet.LeaseLost):
        hold()


def test_an_election_is_led_and_observed(client: Client) -> None:
    with client.election("e").lead("one") as election, client.election("e").observe() as leaders:
        assert next(leaders).value == b"one"
        election.proclaim("two")
        assert next(leaders).value == b"two"
    assert client.election("e").leader() is None


def test_a_transaction_runs_in_the_thread_of_its_caller(client: Client) -> None:
    threads: list[int] = []

    def increment(txn: SyncSTM) -> int:
        threads.append(threading.get_ident())
        number = int(txn.get("n") or 0) + 1
        if len(threads) == 1:
            client.put("n", "10")  # interferes once
        txn.put("n", str(number))
        return number

    assert client.stm(increment) == 11
    assert threads == [threading.get_ident()] * 2


def test_a_cache_is_read_like_a_dict(client: Client) -> None:
    with client.cache("c/") as cache:
        client.put("c/a", "1")
        cache.sync()
        assert [(key, kv.value) for key, kv in cache.items()] == [(b"c/a", b"1")]


def test_queue_counter_party_barrier_and_partitioner(client: Client) -> None:
    client.queue("q").put("item")
    assert client.queue("q").get() == b"item"
    assert client.counter("n").add(2) == 2
    with client.party("p").join("me") as member:
        assert [kv.key for kv in client.party("p").members()] == [member.key]
    client.barrier("b").hold()
    client.barrier("b").release()
    client.barrier("b").wait()
    with client.partitioner("parts", ["a", "b"]) as partitioner:
        owned: frozenset[bytes] = frozenset()
        while owned != {b"a", b"b"}:
            owned = next(partitioner).owned
