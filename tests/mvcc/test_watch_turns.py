"""However many watches a client creates, and wherever they are, a step of the hub takes about its budget."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tercet.mvcc import PREV_KV, Batch, Budget, Watch
from tercet.mvcc.watch import PIECE_BYTES, WaitingWatches
from tercet.mvcc.watch_cohort import BATCH_PENDING
from tests.mvcc.watching import Client, Watched

WATCHES = 2000
WORK = 400


def longest_rise(watched: Watched, count: Callable[[], int]) -> int:
    """Step until all is done. Returns by how much one step has raised `count` at most."""
    longest, before = 0, count()
    for _ in range(100_000):
        more = watched.hub.step(Budget(WORK))
        now = count()
        longest, before = max(longest, now - before), now
        if not more:
            return longest
    raise AssertionError("the hub does not settle")


def watch_many(watched: Watched, client: Client, start_revision: int, key: bytes | None = None) -> None:
    for number in range(WATCHES):
        watched.hub.create(client.stream, 0, key or b"k%06d" % number, b"", start_revision, 0)


def watch_overlapping(watched: Watched, client: Client, start_revision: int) -> None:
    """Watches that all want the keys under `a`, no two of the same range."""
    for number in range(WATCHES):
        watched.hub.create(client.stream, 0, b"a", b"b%06d" % number, start_revision, 0)


def test_watches_of_one_future_revision_begin_in_slices() -> None:
    watched = Watched()
    client = Client(watched.hub)
    watch_many(watched, client, start_revision=5)
    for _ in range(4):
        watched.put(b"k000001")
    live = watched.hub._live
    assert longest_rise(watched, lambda: live.index.count) <= WORK // 4
    assert [change.revision for change in client.got(1)] == [5]
    assert not client.got(2)


def test_waiting_watches_leave_in_any_order() -> None:
    watched = Watched()
    stream = Client(watched.hub).stream
    chance = random.Random(1)
    waiting, expected = WaitingWatches(), []
    for number in range(500):
        watch = Watch(stream, number, b"a", b"", 0, 0, False, False)
        watch.next_revision = chance.randrange(1, 40)
        waiting.add(watch)
        expected.append(watch)
    for watch in chance.sample(expected, 250):
        waiting.remove(watch)
        expected.remove(watch)
        assert watch.waiting is None
    expected.sort(key=lambda watch: watch.next_revision)  # stable: those of one revision in the order in which they came
    assert waiting.count == 250
    while waiting.count:
        assert waiting.first_revision == expected[0].next_revision
        assert waiting.pop() is expected.pop(0)


def test_a_request_that_many_ranges_hold_is_collected_in_slices() -> None:
    watched = Watched()
    client = Client(watched.hub)
    watch_overlapping(watched, client, 0)
    watched.put(*(b"a%d" % number for number in range(50)))
    live = watched.hub._live
    group = live.index.group(b"a", b"b000000")
    assert group is not None
    assert longest_rise(watched, lambda: len(group.pending)) <= 1, "one event of many groups at a time"
    assert client.got(0) == client.got(WATCHES - 1) == watched.log_without_previous()
    assert len(client.responses[0]) == 1, "a revision is not divided"


def test_one_event_that_many_ranges_hold_is_collected_in_slices() -> None:
    watched = Watched()
    client = Client(watched.hub)
    watch_overlapping(watched, client, 0)
    watched.put(b"a")
    live = watched.hub._live
    assert longest_rise(watched, lambda: len(live._dirty)) <= WORK
    watched.put(b"a")
    watched.hub.step(Budget(WORK))
    assert 0 < len(live._dirty) < WATCHES
    for watch_id in range(0, WATCHES, 3):  # also the last that has taken it
        watched.hub.cancel(client.stream, watch_id)
    watched.settle()
    assert client.got(1) == client.got(WATCHES - 1) == watched.log_without_previous()


def test_an_event_that_is_half_collected_when_the_queue_is_full_comes_once() -> None:
    watched = Watched()
    client = Client(watched.hub)
    watch_overlapping(watched, client, 0)
    watched.put(b"a", b"a1")
    watched.hub.step(Budget(WORK))
    assert watched.hub._live.has_begun
    watched.hub.queue_bytes_max = 0
    watched.put(b"a1", b"a2")
    assert watched.hub._live.count == 0, "all read history"
    watched.settle(WORK)
    watched.put(b"a3")
    watched.settle()
    assert client.got(0) == client.got(WATCHES - 1) == watched.log_without_previous()


def test_what_many_ranges_hold_is_sent_before_it_takes_much_memory() -> None:
    watched = Watched()
    watch_overlapping(watched, Client(watched.hub), 0)
    watched.put(b"a")
    live, event = watched.hub._live, watched.hub._queue[0][0]
    for _ in range(BATCH_PENDING // WATCHES):
        assert not live.is_full
        live.collect(event, Budget(2 * WATCHES))
    live.collect(event, Budget(2 * WATCHES))
    assert live.is_full


def test_history_that_many_ranges_hold_is_collected_in_slices() -> None:
    watched = Watched()
    client = Client(watched.hub)
    watched.put(*(b"a%d" % number for number in range(50)))
    watched.put(b"a")
    watch_overlapping(watched, client, 2)
    least = WORK
    while True:
        budget = Budget(WORK)
        more = watched.hub.step(budget)
        least = min(least, budget.left)
        if not more:
            break
    assert least >= -2 * WATCHES
    assert client.got(0) == client.got(WATCHES - 1) == watched.log_without_previous()


@pytest.mark.parametrize("work", range(1, 24, 3))
def test_a_request_that_is_half_collected_when_the_queue_is_full_comes_once(work: int) -> None:
    watched = Watched()
    client = Client(watched.hub)
    for end in (b"a9", b"b", b"c"):
        watched.hub.create(client.stream, 0, b"a", end, 0, 0)
    watched.put(*(b"a%d" % number for number in range(8)))
    watched.hub.step(Budget(work))
    assert watched.hub._collected or watched.hub._live.has_begun
    assert watched.hub._collected < 8
    watched.hub.queue_bytes_max = 0
    watched.put(b"a1", b"a2")
    assert not watched.hub._collected
    watched.settle(20)
    watched.put(b"a3")
    watched.settle()
    assert client.got(0) == client.got(1) == client.got(2) == watched.log_without_previous()


@pytest.mark.parametrize("key", [None, b"a"], ids=["many keys", "one key"])
def test_watches_overtaken_by_a_compaction_end_in_slices(key: bytes | None) -> None:
    watched = Watched()
    client = Client(watched.hub)
    for _ in range(3 * WATCHES):
        watched.put(b"z")
    watch_many(watched, client, 3, key)
    while watched.hub.catch_up._unsynced:
        watched.hub.step(Budget(WORK))
    last = watched.store.revision
    watched.store.compact(last)
    compacted = watched.hub.catch_up._compacted
    assert longest_rise(watched, lambda: len(compacted)) <= WORK
    assert client.ended == dict.fromkeys(range(WATCHES), last)


def test_watches_of_one_key_join_the_live_ones_in_slices() -> None:
    watched = Watched()
    client = Client(watched.hub)
    watched.put(b"a")
    watched.put(b"b")
    watched.hub.create(client.stream, 1 << 20, b"z", b"", 0, 0)
    watch_many(watched, client, 2, b"a")
    live = watched.hub._live
    assert longest_rise(watched, lambda: live.index.count) <= WORK // 4
    watched.put(b"a")
    watched.settle()
    assert client.got(0) == client.got(WATCHES - 1)
    assert len(client.got(0)) == 2


def test_progress_tells_how_many_watches_it_has_looked_at() -> None:
    watched = Watched()
    client = Client(watched.hub)
    watch_many(watched, client, 0)
    assert watched.hub.request_progress(client.stream) >= WATCHES >> 4
    assert watched.hub.request_progress(client.stream) == 0
    assert len(client.notices) == 2
    ahead = watched.hub.create(client.stream, 0, b"a", b"", watched.store.revision + 1000, 0)
    assert watched.hub.request_progress(client.stream) == 0, "it is known to be late"
    watched.hub.cancel(client.stream, ahead.id)
    assert watched.hub.request_progress(client.stream) >= WATCHES >> 4


def test_progress_that_is_due_for_many_streams_takes_many_steps() -> None:
    watched = Watched()
    clients = [Client(watched.hub) for _ in range(200)]
    for client in clients:
        watched.hub.create(client.stream, 0, b"a", b"", 0, 0)
    watched.put(b"a")
    for client in clients:
        watched.hub.request_progress(client.stream)
    assert longest_rise(watched, lambda: sum(len(client.notices) for client in clients)) <= WORK // 4
    assert all(client.notices == [(-1, 2)] for client in clients)


@pytest.mark.parametrize("flags", [0, PREV_KV])
def test_the_events_of_a_large_revision_are_put_together_in_slices(flags: int) -> None:
    watched = Watched()
    client = Client(watched.hub)
    watched.hub.create(client.stream, 0, b"a", b"b", 0, flags)
    for first in range(0, 8 * WATCHES, WATCHES):
        watched.put(*(b"a%06d" % number for number in range(first, first + WATCHES)))
    watched.settle()
    client.responses.clear()
    watched.delete(b"a", b"b")
    cohorts = watched.hub.catch_up._cohorts

    def taken() -> int:
        return sum(batch.looked_at for cohort in cohorts for batch in cohort._batches.values())

    assert longest_rise(watched, taken) <= 16 * WORK
    assert len(client.got(0)) == 8 * WATCHES
    assert len(client.responses[0]) == 1


def test_large_events_are_not_copied() -> None:
    batch = Batch()
    large = bytes(PIECE_BYTES + 1)
    for event in (b"a", b"b", large, b"c", large):
        batch.add(event)
    batch.close()
    assert batch.pieces == [b"ab", large, b"c", large]
    assert batch.pieces[1] is large
    assert (batch.count, batch.size_bytes) == (5, 3 + 2 * len(large))
