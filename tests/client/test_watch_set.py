"""Watches without I/O, against a model of the server: what a consumer receives under losses, pauses and fragments."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.client.watch_set import WatchRewound, WatchSet
from tercet.client.watch_state import Phase, WatchState
from tercet.errors import Code, StatusError
from tercet.proto import rpc_pb2
from tests.client.watch_server import History, StreamModel


def watch(start_revision: int = 0, **bounds: int) -> WatchState:
    return WatchState(rpc_pb2.WatchCreateRequest(key=b"a", start_revision=start_revision), **bounds)


def opened(watches: WatchSet, history: History, *, cluster_id: int = 7) -> StreamModel:
    stream = StreamModel(history, watches, cluster_id=cluster_id)
    watches.opened()
    stream.answer_all()
    return stream


def received(watches: WatchSet, state: WatchState) -> list[tuple[int, bytes]]:
    """(revision, key) of all events in the buffer, which is emptied."""
    found: list[tuple[int, bytes]] = []
    while (response := state.take()) is not None:
        found += [(event.kv.mod_revision, event.kv.key) for event in response.events]
        watches.taken(state)
    return found


def last(state: WatchState) -> rpc_pb2.WatchResponse:
    """The last buffered response, which ends the watch."""
    found = None
    while (response := state.take()) is not None:
        found = response
    assert found is not None
    assert found.canceled
    return found


class TestResume:
    def test_a_watch_of_the_present_continues_after_the_revision_at_which_it_was_created(self) -> None:
        """The event of that revision happened before the watch; it must not appear because the connection broke."""
        history, watches, state = History(), WatchSet(), watch()
        history.put(b"before")
        watches.add(state)
        opened(watches, history)
        watches.lost()
        created = history.put(b"between")
        opened(watches, history).send_events(0)
        assert received(watches, state) == [(created, b"between")]
        assert state.resumes == 1

    def test_a_progress_notification_moves_the_revision_to_continue_from(self) -> None:
        history, watches, state = History(), WatchSet(), watch()
        watches.add(state)
        stream = opened(watches, history)
        history.put(b"of another key")
        stream.applied, stream.positions[0] = 2, 3
        stream.notify_progress(0)
        assert state.next_revision == 3

    def test_the_answer_to_a_progress_request_does_not_move_it(self) -> None:
        """etcd before 3.5.8 answers although events are still to come: they would be lost with the connection."""
        history, watches, state = History(), WatchSet(), watch(2)
        watches.add(state)
        stream = opened(watches, history)
        history.put(b"a")
        stream.applied = 2
        watches.request_progress()
        stream.answer_all()
        assert state.next_revision == 2
        watches.lost()
        opened(watches, history).send_events(0)
        assert received(watches, state) == [(2, b"a")]

    def test_a_watch_of_a_future_revision_waits_for_it_after_a_loss_too(self) -> None:
        history, watches, state = History(), WatchSet(), watch(4)
        watches.add(state)
        stream = opened(watches, history)
        stream.positions[0] = 1
        stream.notify_progress(0)
        watches.lost()
        for key in (b"2", b"3", b"4"):
            history.put(key)
        opened(watches, history).send_events(0)
        assert received(watches, state) == [(4, b"4")]

    def test_an_incomplete_revision_arrives_again_after_a_loss(self) -> None:
        history, watches, state = History(), WatchSet(), watch(2)
        history.put(b"a", b"b")
        history.put(b"c", b"d")
        watches.add(state)
        opened(watches, history).send_half(0)
        assert received(watches, state) == [(2, b"a"), (2, b"b")], "the complete revision is delivered at once"
        watches.lost()
        opened(watches, history).send_events(0)
        assert received(watches, state) == [(3, b"c"), (3, b"d")]

    def test_a_progress_request_is_sent_after_the_answers_to_creates(self) -> None:
        """A server may answer it before a watch is created; the watch would miss the answer."""
        history, watches = History(), WatchSet()
        watches.add(watch())
        watches.request_progress()
        watches.opened()
        assert [request.WhichOneof("request_union") for request in watches.take_requests()] == ["create_request"]
        watches.received(rpc_pb2.WatchResponse(header={"revision": history.revision}, created=True))
        assert [request.WhichOneof("request_union") for request in watches.take_requests()] == ["progress_request"]


class TestSlowConsumer:
    def test_a_full_buffer_cancels_the_watch_and_half_a_buffer_creates_it_again(self) -> None:
        history, watches, state, neighbour = History(), WatchSet(), watch(2, responses_max=4), watch(2)
        for number in range(10):
            history.put(b"%d" % number)
        watches.add(state)
        watches.add(neighbour)
        stream = opened(watches, history)
        for _ in range(6):
            stream.send_events(0, 1)  # the last two arrive after the cancel request and are dropped
        assert state.phase is Phase.PAUSED
        stream.answer_all()
        assert list(stream.positions) == [1], "the neighbour goes on"
        taken = [state.take() for _ in range(2)]
        watches.taken(state)
        stream.answer_all()
        assert all(taken)
        assert stream.positions == {1: 2, 2: 6}
        stream.send_events(2)
        assert [revision for revision, _ in received(watches, state)] == [4, 5, 6, 7, 8, 9, 10, 11]

    def test_a_watch_paused_between_two_fragments_of_a_revision_receives_the_revision_once(self) -> None:
        history, watches, state = History(), WatchSet(), watch(2, responses_max=1)
        history.put(b"a")
        history.put(b"b", b"c")
        watches.add(state)
        stream = opened(watches, history)
        stream.send_events(0, fragment_events=1)
        assert state.phase is Phase.PAUSED
        assert received(watches, state) == [(2, b"a")]
        stream.answer_all()
        stream.send_events(1)
        assert received(watches, state) == [(3, b"b"), (3, b"c")]

    def test_bytes_fill_the_buffer_too(self) -> None:
        history, watches, state = History(), WatchSet(), watch(2, bytes_max=100)
        history.put(b"a" * 200)
        watches.add(state)
        opened(watches, history).send_events(0)
        assert state.phase is Phase.PAUSED

    def test_a_paused_watch_stays_paused_on_a_new_stream(self) -> None:
        history, watches, state = History(), WatchSet(), watch(2, responses_max=1)
        history.put(b"a")
        history.put(b"b")
        watches.add(state)
        opened(watches, history).send_events(0, 1)
        watches.lost()
        stream = opened(watches, history)
        assert stream.positions == {}
        assert received(watches, state) == [(2, b"a")]
        stream.answer_all()
        stream.send_events(0)
        assert received(watches, state) == [(3, b"b")]


class TestEnd:
    def test_a_compacted_watch_gets_what_is_buffered_and_then_the_reason(self) -> None:
        history, watches, state = History(), WatchSet(), watch(2)
        history.put(b"a")
        watches.add(state)
        stream = opened(watches, history)
        stream.send_events(0)
        stream.end(0, compact_revision=9)
        first = state.take()
        assert first is not None
        assert first.events
        assert last(state).compact_revision == 9
        assert len(watches) == 0

    def test_a_watch_that_is_left_before_it_is_created_is_cancelled(self) -> None:
        history, watches, state = History(), WatchSet(), watch()
        watches.add(state)
        watches.opened()
        watches.remove(state)
        stream = StreamModel(history, watches)
        stream.answer_all()
        assert stream.positions == {}

    def test_a_response_for_an_unknown_watch_cancels_it_once(self) -> None:
        watches = WatchSet()
        watches.opened()
        for _ in range(2):
            watches.received(rpc_pb2.WatchResponse(header={"revision": 3}, watch_id=5))
        assert [request.cancel_request.watch_id for request in watches.take_requests()] == [5]

    def test_an_error_of_the_stream_ends_all_watches(self) -> None:
        history, watches, states = History(), WatchSet(), [watch(), watch()]
        for state in states:
            watches.add(state)
        opened(watches, history)
        watches.fail(StatusError(Code.PERMISSION_DENIED, "etcdserver: permission denied"))
        assert [last(state).cancel_reason for state in states] == ["etcdserver: permission denied"] * 2
        assert {state.error.code for state in states if state.error} == {Code.PERMISSION_DENIED}

    def test_a_stale_token_asks_for_a_new_stream_at_most_twice(self) -> None:
        history, watches, state = History(), WatchSet(), watch()
        watches.add(state)
        for _ in range(2):
            watches.opened()
            StreamModel(history, watches).refuse("rpc error: code = Unauthenticated desc = etcdserver: invalid auth token")
            assert watches.must_reopen
            watches.lost()
        watches.opened()
        StreamModel(history, watches).refuse("etcdserver: invalid auth token")
        assert last(state).cancel_reason == "etcdserver: invalid auth token"

    def test_another_refusal_ends_the_watch(self) -> None:
        watches, state = WatchSet(), watch()
        watches.add(state)
        watches.opened()
        StreamModel(History(), watches).refuse("etcdserver: permission denied")
        assert not watches.must_reopen
        assert last(state).cancel_reason == "etcdserver: permission denied"


class TestRewound:
    def test_another_cluster_id_ends_the_watches(self) -> None:
        history, watches, state = History(), WatchSet(), watch()
        watches.add(state)
        opened(watches, history)
        watches.lost()
        opened(watches, history, cluster_id=8)
        assert last(state).cancel_reason == "the cluster's ID has changed from 7 to 8: it was restored from a backup"
        assert isinstance(state.error, WatchRewound)

    @pytest.mark.parametrize(("revision", "is_rewound"), [(2, True), (4, False)])
    def test_a_lower_revision_is_a_restored_cluster_only_if_a_linearizable_read_confirms_it(
        self, revision: int, is_rewound: bool
    ) -> None:
        history, watches, state = History(), WatchSet(), watch(2)
        for key in (b"2", b"3", b"4"):
            history.put(key)
        watches.add(state)
        opened(watches, history).send_events(0)
        watches.lost()
        stream = StreamModel(history, watches)
        stream.applied = 2  # a member that lags, or a restored one
        watches.opened()
        stream.answer_all()
        assert watches.suspicion is state
        watches.verify(rpc_pb2.ResponseHeader(cluster_id=7, revision=revision))
        assert watches.suspicion is None
        assert isinstance(state.error, WatchRewound) is is_rewound


STEPS = st.lists(st.tuples(st.sampled_from("pptssshnlacqx"), st.integers(0, 5), st.integers(0, 3)), max_size=60)


@given(steps=STEPS, starts=st.lists(st.integers(0, 4), min_size=1, max_size=3), responses_max=st.integers(1, 4))
def test_every_event_arrives_once_and_in_order_whatever_happens(
    steps: list[tuple[str, int, int]], starts: list[int], responses_max: int
) -> None:
    history, watches = History(), WatchSet()
    history.put(b"first")
    states = [watch(start, responses_max=responses_max) for start in starts]
    begins = list(starts)
    seen: list[list[tuple[int, bytes]]] = [[] for _ in states]
    for state in states:
        watches.add(state)
    stream = opened(watches, history)
    begins = [start or history.revision + 1 for start in starts]

    def consume(index: int, limit: int) -> None:
        for _ in range(limit):
            response = states[index].take()
            if response is None:
                return
            assert not response.canceled
            revisions = {event.kv.mod_revision for event in response.events}
            for revision in revisions:  # no revision is split over responses
                assert sum(event.kv.mod_revision == revision for event in response.events) == len(history.events(revision))
            seen[index] += [(event.kv.mod_revision, event.kv.key) for event in response.events]
            watches.taken(states[index])

    for step, which, size in steps:
        ids = sorted(stream.positions)
        watch_id = ids[which % len(ids)] if ids else None
        if step == "p":
            history.put(*(b"%d" % number for number in range(size + 1)))
        elif step == "a":
            stream.applied = min(history.revision, stream.applied + size)
        elif step == "q":
            watches.request_progress()
        elif step == "c":
            consume(which % len(states), size)
        elif step == "x":
            stream.answer_next()
        elif step == "l":
            watches.lost()
            stream = StreamModel(history, watches)
            stream.applied = max(1, history.revision - size)
            watches.opened()
        elif watch_id is not None and step == "s":
            stream.send_events(watch_id, size + 1, fragment_events=which)
        elif watch_id is not None and step == "h":
            stream.send_half(watch_id)
            watches.lost()
            stream = StreamModel(history, watches)
            watches.opened()
        elif watch_id is not None and step == "n":
            stream.notify_progress(watch_id)
        if watches.suspicion is not None:
            watches.verify(rpc_pb2.ResponseHeader(cluster_id=7, revision=history.revision))
    for _ in range(100):  # faults stop: all must arrive
        stream.applied = history.revision
        stream.answer_all()
        for watch_id in sorted(stream.positions):
            stream.send_events(watch_id, 3)
        for index in range(len(states)):
            consume(index, 1000)
    for begin, events in zip(begins, seen, strict=True):
        revisions = range(max(begin, 2), history.revision + 1)
        assert events == [(revision, event.kv.key) for revision in revisions for event in history.events(revision)]
