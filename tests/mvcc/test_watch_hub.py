"""What each watch gets: everything from its first revision on, in order, once, whatever happens to store and reader."""

from __future__ import annotations

import random

import pytest

from tercet.errors import RequestError
from tercet.mvcc import NO_DELETE, NO_PUT, PREV_KV, Budget, Watch, WatchHub, WatchRefused, WatchStream, watch_hub, whole_apply
from tercet.mvcc.watch_cohort import BATCH_REVISIONS, Cohort
from tercet.mvcc.watch_history import KEPT_REVISIONS
from tests.mvcc.watching import Change, Client, Delete, Op, Put, Txn, Watched, revisions
from tests.support.fakes import uses_fakes


def test_a_watch_gets_what_is_written_after_it() -> None:
    watched = Watched()
    client = Client(watched.hub)
    watched.put(b"a")
    watched.hub.create(client.stream, 0, b"a", b"", 0, 0)
    watched.put(b"a")
    watched.put(b"b")
    watched.delete(b"a")
    watched.settle()
    assert client.got(0) == [Change(3, b"a", b"3"), Change(5, b"a", None)]


def test_a_put_that_no_watch_matches_notifies_no_stream() -> None:
    watched = Watched()
    client = Client(watched.hub)
    watched.hub.create(client.stream, 0, b"a", b"", 0, 0)
    woken: list[bool] = []
    watched.hub.schedule = lambda: woken.append(True)
    watched.put(b"b")
    assert not woken
    watched.put(b"a")
    assert woken == [True]
    watched.put(b"a")
    assert woken == [True], "one step is due already"


def test_a_response_of_history_holds_at_most_1000_revisions() -> None:
    watched = Watched()
    client = Client(watched.hub)
    for _ in range(2 * BATCH_REVISIONS + 500):
        watched.put(b"a")
    watched.hub.create(client.stream, 0, b"a", b"", 2, 0)
    watched.settle()
    assert [len(response) for response in client.responses[0]] == [1000, 1000, 500]  # W12
    assert client.headers[0] == [watched.store.revision] * 3
    assert client.got(0) == watched.log_without_previous()


def test_ids_are_given_in_order_and_never_twice() -> None:
    watched = Watched()
    stream = Client(watched.hub).stream

    def create(watch_id: int) -> int:
        return watched.hub.create(stream, watch_id, b"a", b"", 0, 0).id

    assert [create(0), create(2), create(0), create(0), create(-5)] == [0, 2, 1, 3, -5]  # W2
    assert watched.hub.cancel(stream, 0)
    assert not watched.hub.cancel(stream, 0)
    assert create(0) == 4
    with pytest.raises(WatchRefused, match=r"^mvcc: duplicate watch ID provided on the WatchStream$"):
        create(2)
    with pytest.raises(WatchRefused, match=r"^mvcc: watcher range is empty$"):
        watched.hub.create(stream, 0, b"b", b"b", 0, 0)
    assert watched.hub.watches == 5


def test_filters_drop_events_and_send_no_empty_response() -> None:
    watched = Watched()
    client = Client(watched.hub)
    for watch_id, flags in ((1, NO_PUT), (2, NO_DELETE), (3, NO_PUT | NO_DELETE)):
        watched.hub.create(client.stream, watch_id, b"a", b"", 0, flags)
    watched.put(b"a")
    watched.settle()
    watched.delete(b"a")
    watched.settle()
    assert client.responses == {1: [[Change(3, b"a", None)]], 2: [[Change(2, b"a", b"2")]]}  # W14


def test_prev_kv_is_the_pair_before_the_request() -> None:
    watched = Watched()
    client = Client(watched.hub)
    watched.hub.create(client.stream, 0, b"a", b"", 0, PREV_KV)
    watched.hub.create(client.stream, 0, b"a", b"", 0, 0)
    for _ in range(2):
        watched.put(b"a")
    watched.delete(b"a")
    watched.put(b"a")
    watched.settle()
    assert [change.previous for change in client.got(0)] == [None, b"2", b"3", None]  # W15
    assert [change.previous for change in client.got(1)] == [None] * 4  # W16


def test_a_watch_of_a_compacted_revision_ends_and_keeps_its_id() -> None:
    watched = Watched()
    client = Client(watched.hub)
    for _ in range(5):
        watched.put(b"a")
    watched.store.compact(4)
    watched.hub.create(client.stream, 0, b"a", b"", 3, 0)
    watched.hub.create(client.stream, 0, b"a", b"", 4, 0)
    watched.settle()
    assert client.ended == {0: 4}  # W5
    assert [change.revision for change in client.got(1)] == [4, 5, 6]
    assert watched.hub.slow_watches == 0
    with pytest.raises(WatchRefused):
        watched.hub.create(client.stream, 2, b"a", b"", 0, 0) and watched.hub.create(client.stream, 2, b"a", b"", 0, 0)
    assert watched.hub.cancel(client.stream, 0)  # W7


def test_d07_a_delete_at_the_compact_revision_is_delivered() -> None:
    watched = Watched()
    client = Client(watched.hub)
    for _ in range(3):
        watched.put(b"a")
    watched.delete(b"a")
    watched.put(b"a")
    watched.store.compact(5)
    while watched.store.compaction_step():
        pass
    watched.hub.create(client.stream, 0, b"a", b"", 5, 0)
    watched.settle()
    assert client.got(0) == [Change(5, b"a", None), Change(6, b"a", b"6")]


def test_d08_a_watch_from_a_compacted_delete_gets_it() -> None:
    watched = Watched()
    client = Client(watched.hub)
    watched.put(b"a")
    watched.delete(b"a")
    watched.hub.create(client.stream, 0, b"a", b"", 3, 0)
    watched.store.compact(3)
    while watched.store.compaction_step():
        pass
    watched.settle()
    assert client.got(0) == [Change(3, b"a", None)]


def test_d09_a_slow_watch_overtaken_by_a_compaction_ends_when_its_client_reads() -> None:
    watched = Watched()
    client = Client(watched.hub, room=1)
    watched.hub.create(client.stream, 0, b"a", b"", 0, 0)
    for _ in range(4):
        watched.put(b"a")
        watched.settle()
    assert client.got(0) == [Change(2, b"a", b"2")]
    assert watched.hub.slow_watches == 1
    watched.store.compact(4)
    client.read()
    watched.settle()
    assert client.ended == {0: 4}


def test_d10_all_of_many_lagging_watches_end_in_one_compaction() -> None:
    watched = Watched()
    client = Client(watched.hub)
    watched.put(b"a")
    watched.put(b"a")
    for _ in range(1500):
        watched.hub.create(client.stream, 0, b"a", b"", 2, 0)
    watched.store.compact(3)
    watched.settle(work=100)
    assert client.ended == dict.fromkeys(range(1500), 3)
    assert watched.hub.slow_watches == 0


def test_d11_progress_is_never_ahead_of_events_and_arrives_on_a_quiet_watch() -> None:
    watched = Watched()
    client = Client(watched.hub)
    watched.hub.request_progress(client.stream)
    assert client.notices == [], "a stream without watches has no progress"
    quiet = watched.hub.create(client.stream, 0, b"q", b"", 0, 0)
    watched.hub.create(client.stream, 0, b"a", b"", 0, 0)
    watched.hub.request_progress(client.stream)
    watched.hub.notify_progress(quiet)
    assert client.notices == [(-1, 1), (0, 1)]
    watched.put(b"a")
    watched.hub.request_progress(client.stream)
    watched.hub.notify_progress(quiet)
    assert len(client.notices) == 2, "the event of revision 2 is not sent yet"
    watched.settle()
    assert client.got(1) == [Change(2, b"a", b"2")]
    assert client.notices[2:] == [(-1, 2), (0, 2)]
    watched.hub.create(client.stream, 0, b"f", b"", 9, 0)
    watched.hub.request_progress(client.stream)
    assert len(client.notices) == 4, "a watch of a future revision holds progress back (W21)"


def test_d12_watches_continue_over_an_installed_snapshot() -> None:
    watched = Watched()
    client = Client(watched.hub)
    watched.put(b"a")
    watched.hub.create(client.stream, 0, b"a", b"", 0, 0)
    watched.put(b"a")
    hub, watched.hub = watched.hub, Watched().hub  # what the sender of the snapshot goes on to write
    watched.store.watch_writes(watched.hub)
    watched.put(b"a", b"b")
    watched.delete(b"a")
    watched.hub = hub
    hub._history.store.index.main = 4  # this member has applied up to revision 3
    watched.replace_store()
    watched.put(b"a")
    watched.settle()
    assert client.got(0) == watched.expected(client.stream.watches[0], 3)
    assert watched.hub.slow_watches == 0


def test_d13_a_watch_of_a_future_revision_gets_nothing_older() -> None:
    watched = Watched()
    client = Client(watched.hub)
    watched.hub.create(client.stream, 0, b"a", b"", 4, 0)
    for _ in range(4):
        watched.put(b"a")
    watched.settle()
    assert [change.revision for change in client.got(0)] == [4, 5]


def test_d14_several_writes_of_a_txn_reach_several_watches_once() -> None:
    watched = Watched()
    client = Client(watched.hub)
    for key, end in ((b"a", b""), (b"a", b"c"), (b"b", b""), (b"", None)):
        watched.hub.create(client.stream, 0, key or b"\0", end, 0, 0)
    watched.put(b"a", b"b")
    watched.settle()
    a, b = Change(2, b"a", b"2"), Change(2, b"b", b"2")
    assert client.responses == {0: [[a]], 1: [[a, b]], 2: [[b]], 3: [[a, b]]}


def test_a_stream_that_is_closed_leaves_nothing() -> None:
    watched = Watched()
    client = Client(watched.hub, room=1)
    for start in (0, 2, 9):
        watched.hub.create(client.stream, 0, b"a", b"", start, 0)
    for _ in range(3):
        watched.put(b"a")
        watched.settle()
    watched.hub.close(client.stream)
    assert (watched.hub.watches, watched.hub.streams) == (0, 0)
    assert not watched.hub.is_watching
    watched.put(b"a")
    watched.settle()
    assert watched.hub.slow_watches == 0


def test_many_watches_of_a_closed_stream_end_in_slices_and_get_nothing() -> None:
    """50,000 ranges of one stream took seconds of a turn to leave the tree."""
    watched = Watched()
    closed, other = Client(watched.hub), Client(watched.hub)
    for number in range(1000):
        key = b"a%d" % number
        watched.hub.create(closed.stream, 0, key, key + b"z", 0, 0, wants_progress=True)
    watched.hub.create(other.stream, 0, b"a", b"b", 0, 0)
    watched.put(b"a5")  # in the queue
    watched.hub.request_progress(closed.stream)
    watched.hub.close(closed.stream)
    assert watched.hub.streams == 1
    left = [watched.hub.watches]
    while left[-1] > 1:
        watched.hub.step(Budget(200))
        watched.put(b"a%d" % len(left))
        left.append(watched.hub.watches)
        assert 0 < left[-2] - left[-1] <= 20, "a slice"
    watched.settle()
    assert not closed.responses
    assert not closed.notices
    assert len(other.got(0)) == len(left)
    assert watched.hub.slow_watches == 0
    watched.hub.cancel(other.stream, 0)
    assert not watched.hub.is_watching


def test_a_request_larger_than_the_queue_is_read_from_the_backend_in_slices() -> None:
    watched = Watched()
    client = Client(watched.hub)
    keys = [b"k%05d" % number for number in range(3000)]
    for start in range(0, len(keys), 100):
        watched.put(*keys[start : start + 100])
    watched.hub.create(client.stream, 0, b"k", b"l", 0, PREV_KV)
    watched.hub.create(client.stream, 0, keys[7], b"", 0, 0)
    watched.delete(b"k", b"l")
    longest = 0
    while True:
        budget = Budget(500)
        if not watched.hub.step(budget):
            break
        longest = max(longest, 500 - budget.left)
    assert longest < 1000
    assert client.got(0) == watched.expected(client.stream.watches[0], 32)
    assert len(client.responses[0]) == 1, "a revision is one response"
    assert client.got(1) == [Change(32, keys[7], None)]


def test_the_queue_is_bounded_and_nothing_is_lost() -> None:
    watched = Watched()
    watched.hub.queue_bytes_max = 2000
    client = Client(watched.hub)
    watched.hub.create(client.stream, 0, b"a", b"", 0, 0)
    for _ in range(50):
        watched.put(b"a")
        assert watched.hub._queue_bytes <= 2000
    watched.settle()
    assert client.got(0) == watched.log_without_previous()
    assert watched.hub.slow_watches == 0


RANGES = ((b"a", b""), (b"b", b""), (b"c", b""), (b"a", b"c"), (b"b", b"d"), (b"\0", None), (b"b", None), (b"a", b"b"))


@pytest.mark.parametrize("flags", [0, PREV_KV])
def test_a_compaction_after_a_large_request_does_not_end_watches_that_were_up_to_date(flags: int) -> None:
    """Neither is what they must still get removed."""
    watched = Watched()
    client, slow = Client(watched.hub), Client(watched.hub, room=1)
    keys = [b"%04d" % number for number in range(1200)]
    watched.put(*keys)
    watch = watched.hub.create(client.stream, 0, b"0", b"~", 0, flags)
    late = watched.hub.create(slow.stream, 0, b"x", b"", 0, 0)
    watched.put(b"x")
    watched.settle()
    watched.delete(b"0", b"2")
    for key in (b"0000", b"x", b"0000"):
        watched.put(key)
    watched.store.compact(watched.store.revision)
    for _ in range(10):
        assert watched.store.compaction_step()
    assert watched.hub.create(slow.stream, 0, b"0", b"~", 4, 0), "others are ended as ever"
    watched.settle(work=100)
    assert client.got(0) == watched.expected(watch, 3)
    assert not client.ended
    slow.read()
    watched.settle()
    slow.read()
    watched.settle()
    assert slow.ended == {late.id: 7, 1: 7}
    while watched.store.compaction_step():
        assert watched.store.pins.allow(7)


def test_a_compaction_does_not_wait_for_ever_for_watches_that_cannot_follow() -> None:
    watched = Watched()
    watched.hub.queue_bytes_max = 1
    client = Client(watched.hub)
    watched.hub.create(client.stream, 0, b"a", b"", 0, 0)
    watched.put(b"a")
    for _ in range(KEPT_REVISIONS + 20):
        whole_apply(watched.store.txn(Txn(success=[Op(request_put=Put(key=b"b"))])))
    watched.store.compact(watched.store.revision)
    assert watched.store.compaction_step()
    cohort = watched.hub.catch_up._cohorts[0]
    while cohort.cursor < 2 + KEPT_REVISIONS:
        assert not watched.store.pins.allow(watched.store.compact_revision)
        assert watched.hub.step(Budget(1000))
    watched.hub.step(Budget(10))
    assert watched.store.pins.allow(watched.store.compact_revision)


@pytest.mark.parametrize("seed", range(60))
def test_random_histories(seed: int) -> None:
    """Creates, cancels, slow readers, compactions, snapshots, half applied requests: each watch gets exactly its events."""
    chance = random.Random(seed)
    watched = Watched()
    watched.hub.catch_up.shared_revisions = chance.choice((0, 5, 5000))
    watched.hub.catch_up.cohorts_max = chance.choice((1, 3, 8))
    watched.hub.queue_bytes_max = chance.choice((1000, 1 << 20))
    clients = [Client(watched.hub, room=chance.choice((1, 3, 1000))) for _ in range(4)]
    firsts: dict[Watch, int] = {}
    for _ in range(300):
        _random_step(watched, clients, firsts, chance)
        _check_current(watched.hub, chance.choice(clients).stream)
    for client in clients:
        client.room = 1 << 30
        client.read()
    watched.settle(work=50)
    for watch, first in firsts.items():
        client = next(client for client in clients if client.stream is watch.stream)
        got, expected = client.got(watch.id), watched.expected(watch, first)
        if watch.id in client.ended:
            assert got == expected[: len(got)]
            left = expected[len(got) :]
            assert first < client.ended[watch.id]
            assert not left or left[0].revision >= first
        else:
            assert got == expected, (watch.id, first)
        seen: set[int] = set()
        for of_response in revisions(client.responses.get(watch.id, [])):
            assert not seen & of_response, "a revision is split"
            seen |= of_response
    assert watched.hub.slow_watches == 0
    for client in clients:
        watched.hub.close(client.stream)
    watched.settle()
    assert (watched.hub.watches, watched.hub.streams) == (0, 0)
    while watched.store.compaction_step():
        assert watched.store.pins.allow(watched.store.compact_revision), "a compaction waits for a watch that is no more"


def test_a_stream_is_not_up_to_date_because_its_watches_once_were() -> None:
    """The live cohort falls behind twice; the first of them is up to date again long before the second."""
    watched = Watched()
    client = Client(watched.hub)
    for count in (1, 50):
        for number in range(count):
            watched.hub.create(client.stream, 0, b"a%d" % number, b"b", 0, 0)
        if count == 1:
            _check_current(watched.hub, client.stream)
        watched.hub.queue_bytes_max = 0
        watched.put(b"a9")
    for _ in range(1000):
        if not watched.hub.step(Budget(20)):
            break
        _check_current(watched.hub, client.stream)
    assert len(client.got(0)) == 2
    assert len(client.got(50)) == 1


def _check_current(hub: WatchHub, stream: WatchStream) -> None:
    """What a stream remembers of its watches is what each of them says."""
    revision = hub._history.next_revision - 1
    assert hub._are_current(stream) == all(
        watch_hub._has_reached(watch, hub._live, revision) for watch in stream.watches.values()
    )


@uses_fakes
def test_a_storm_of_progress_requests_does_not_ask_all_watches_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched()
    client = Client(watched.hub)
    for number in range(1000):
        watched.hub.create(client.stream, 0, b"%d" % number, b"", 0, 0)
    asked: list[Watch] = []
    has_reached = watch_hub._has_reached

    def counted(watch: Watch, live: Cohort, revision: int) -> bool:
        asked.append(watch)
        return has_reached(watch, live, revision)

    monkeypatch.setattr(watch_hub, "_has_reached", counted)
    for _ in range(100):
        watched.hub.request_progress(client.stream)
        watched.put(b"5")
        watched.settle()
    assert len(client.notices) == 100
    assert len(asked) <= 2000
    asked.clear()
    watched.hub.create(client.stream, 0, b"a", b"", watched.store.revision + 1000, 0)  # and now one that is not up to date
    for _ in range(100):
        watched.hub.request_progress(client.stream)
    assert len(client.notices) == 100
    assert len(asked) <= 2000


def _random_step(watched: Watched, clients: list[Client], firsts: dict[Watch, int], chance: random.Random) -> None:
    kind = chance.choices(
        ("put", "delete", "create", "cancel", "step", "read", "compact", "snapshot", "half"), (30, 6, 14, 5, 30, 10, 1, 1, 3)
    )[0]
    client = chance.choice(clients)
    if kind == "put":
        watched.put(*chance.sample((b"a", b"b", b"c", b"d"), chance.randint(1, 3)))
    elif kind == "delete":
        watched.delete(*chance.choice(((b"a", b"c"), (b"b", b""), (b"a", b"z"))))
    elif kind == "create":
        _create(watched, client, firsts, chance)
    elif kind == "cancel" and client.stream.watches:
        watch = client.stream.watches[chance.choice(list(client.stream.watches))]
        watched.hub.cancel(client.stream, watch.id)
        firsts.pop(watch, None)
    elif kind == "step":
        watched.hub.step(Budget(chance.choice((1, 10, 100, 2000))))
        watched.store.compaction_step(chance.choice((1, 1000)))
    elif kind == "read":
        client.read()
    elif kind == "compact":
        try:
            watched.store.compact(chance.randint(1, watched.store.revision))
        except RequestError:
            return
        watched.store.compaction_step(chance.choice((1, 1000)))
    elif kind == "snapshot":
        watched.replace_store()
    else:
        watched.log_deletes(b"a", b"z")
        apply = watched.store.delete_range(Delete(key=b"a", range_end=b"z"))
        while apply.step(Budget(1)):
            watched.hub.step(Budget(20))
            if chance.random() < 0.3:
                _create(watched, client, firsts, chance)


def _create(watched: Watched, client: Client, firsts: dict[Watch, int], chance: random.Random) -> None:
    current = watched.store.revision
    start = chance.choice((0, 0, chance.randint(max(1, watched.store.compact_revision), current + 5)))
    key, end = chance.choice(RANGES)
    flags = chance.choice((0, 0, NO_PUT, NO_DELETE))
    watch = watched.hub.create(client.stream, 0, key, end, start, flags)
    firsts[watch] = start or current + 1
