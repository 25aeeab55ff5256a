"""RaftLog against a plain list; PendingWrites, Progress and ReadOnly on their own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.errors import InvariantViolation
from tercet.raft import Entry, Message, MessageType, Progress, ProgressState, RaftLog
from tercet.raft.pending_writes import PendingWrites
from tercet.raft.read_only import ReadOnly


def log_of(*terms: int, snapshot: tuple[int, int] = (0, 0)) -> RaftLog:
    index, term = snapshot
    return RaftLog(index, term, [Entry(t, i, b"x" * i) for i, t in enumerate(terms, index + 1)])


TERMS = st.lists(st.integers(1, 5), max_size=30).map(sorted)


def test_positions_after_a_snapshot() -> None:
    log = log_of(2, 2, 3, snapshot=(4, 2))
    assert (log.first_index, log.last_index, log.last_term) == (5, 7, 3)
    assert [log.term(index) for index in range(3, 9)] == [None, 2, 2, 2, 3, None]
    assert RaftLog().last_index == 0
    assert RaftLog().term(0) == 0


@pytest.mark.parametrize("entries", [[Entry(1, 2)], [Entry(1, 1), Entry(1, 3)], [Entry(2, 1), Entry(1, 2)]])
def test_a_log_with_a_gap_or_a_falling_term_is_rejected(entries: list[Entry]) -> None:
    with pytest.raises(InvariantViolation):
        RaftLog(0, 0, entries)


@given(TERMS, st.integers(0, 30), st.integers(0, 31), st.integers(0, 31), st.integers(0, 300))
def test_a_slice_is_bounded_in_bytes(terms: list[int], compacted: int, low: int, high: int, max_bytes: int) -> None:
    log = log_of(*terms)
    log.compact(min(compacted, log.last_index))
    low = max(low, log.first_index)
    whole = [entry for entry in log.entries(log.first_index, log.last_index + 1) if low <= entry.index < high]
    assert log.entries(low, high) == whole
    bounded = log.entries(low, high, max_bytes)
    assert bounded == whole[: len(bounded)]
    assert bool(bounded) == bool(whole)
    if len(bounded) > 1:
        assert sum(len(entry.wire) for entry in bounded) <= max_bytes
    if len(bounded) < len(whole):
        assert sum(len(entry.wire) for entry in whole[: len(bounded) + 1]) > max_bytes


def test_long_slices_are_bounded_to_the_byte() -> None:
    log = RaftLog(0, 0, [Entry(1, index, b"x" * (index % 50)) for index in range(1, 2000)])
    for max_bytes in (0, 1, 5_000, 20_000, 60_000, 10**9):
        bounded = log.entries(3, 1900, max_bytes)
        size = sum(len(entry.wire) for entry in bounded)
        assert size <= max_bytes or len(bounded) == 1
        assert bounded == log.entries(3, 3 + len(bounded))
        if bounded[-1].index < 1899:
            assert size + len(log.entry(bounded[-1].index + 1).wire) > max_bytes


@given(TERMS, st.integers(0, 29), st.integers(0, 35), st.integers(0, 6))
def test_last_position_up_to_agrees_with_a_linear_search(terms: list[int], compacted: int, index: int, term: int) -> None:
    log = log_of(*terms)
    log.compact(min(compacted, log.last_index))
    found, found_term = log.last_position_up_to(index=index, term=term)
    position = min(index, log.last_index)
    while position >= log.snapshot_index and (log.term(position) or 0) > term:
        position -= 1
    if position >= log.snapshot_index:
        assert (found, found_term) == (position, log.term(position))
    else:
        assert found < max(log.snapshot_index, 1)
        assert found_term == 0


def test_compaction_keeps_the_position_it_compacted_to() -> None:
    log = log_of(1, 1, 2, 3)
    log.compact(3)
    log.compact(2)
    assert (log.snapshot_index, log.snapshot_term, log.first_index, log.last_index) == (3, 2, 4, 4)
    log.compact(4)
    assert (log.last_index, log.last_term) == (4, 3)
    with pytest.raises(InvariantViolation):
        log.compact(5)
    with pytest.raises(InvariantViolation):
        log.entries(4, 5)


@pytest.mark.parametrize(("index", "term", "fresh"), [(3, 2, True), (4, 2, True), (2, 2, False), (1, 3, True), (9, 1, False)])
def test_a_log_is_up_to_date_by_last_term_then_length(index: int, term: int, fresh: bool) -> None:
    assert log_of(1, 1, 2).is_up_to_date(index=index, term=term) is fresh


def test_first_conflict_is_the_first_difference() -> None:
    log = log_of(1, 1, 2)
    assert log.first_conflict([Entry(1, 2), Entry(2, 3)]) == 4
    assert log.first_conflict([Entry(1, 2), Entry(3, 3)]) == 3
    assert log.first_conflict([Entry(2, 3), Entry(2, 4)]) == 4


def ack(index: int) -> Message:
    return Message(MessageType.APP_RESP, to=1, index=index)


def test_messages_wait_for_the_write_of_their_turn() -> None:
    writes = PendingWrites(stable_index=4, stable_term=1)
    writes.hold(ack(4))
    assert [message.index for message in writes.no_write()] == [4]
    writes.hold(ack(5))
    writes.begin(1, term=1, last_index=5, snapshot_index=0)
    writes.hold(ack(55))
    assert writes.no_write() == []
    writes.hold(ack(6))
    writes.begin(3, term=2, last_index=6, snapshot_index=0)
    assert writes.stable_index == 4
    assert [[m.index for m in write.messages] for write in writes.finish(2)] == [[5, 55]]
    assert (writes.stable_index, writes.stable_term) == (5, 1)
    assert [[m.index for m in write.messages] for write in writes.finish(3)] == [[6]]
    assert (writes.stable_index, writes.stable_term) == (6, 2)
    assert writes.finish(9) == []


def test_a_write_of_replaced_entries_does_not_make_their_indexes_stable() -> None:
    writes = PendingWrites(stable_index=4, stable_term=1)
    writes.begin(1, term=1, last_index=9, snapshot_index=0)
    writes.truncated(6)
    writes.begin(2, term=2, last_index=8, snapshot_index=0)
    writes.finish(1)
    assert writes.stable_index == 6
    writes.truncated(5)
    assert writes.stable_index == 5
    writes.finish(2)
    assert writes.stable_index == 5


def progress() -> Progress:
    return Progress(next=8, inflight_max=2)


def test_progress_replicates_up_to_its_window() -> None:
    it = progress()
    it.acknowledge(4)
    it.become_replicate()
    assert (it.match, it.next) == (4, 5)
    it.sent(3)
    it.sent(0)
    assert (it.next, it.inflight_count, it.is_paused) == (8, 1, False)
    it.sent(1)
    assert (it.is_full, it.is_paused) == (True, True)
    assert it.acknowledge(7)
    it.free_inflight(7)
    assert (it.inflight_count, it.is_paused) == (1, False)
    assert not it.acknowledge(6)


def test_progress_ignores_stale_rejections() -> None:
    it = progress()
    assert not it.back_off(rejected=3, hint=1)
    assert it.back_off(rejected=7, hint=4)
    assert it.next == 5
    it.acknowledge(4)
    it.become_replicate()
    it.sent(5)
    assert not it.back_off(rejected=4, hint=0)
    assert it.back_off(rejected=9, hint=0)
    assert it.next == 5


def test_progress_probes_after_the_snapshot_it_was_sent() -> None:
    it = progress()
    it.become_snapshot(20)
    assert (it.next, it.is_paused) == (21, True)
    assert not it.back_off(rejected=20, hint=3)
    it.become_probe()
    assert (it.state, it.next, it.is_paused) == (ProgressState.PROBE, 21, False)
    it.become_snapshot(30)
    it.pending_snapshot = 0
    it.become_probe()
    assert it.next == 1


def test_a_commit_can_be_raised_only_up_to_the_entries_sent() -> None:
    it = progress()
    it.become_replicate()
    assert not it.can_raise_commit(5)
    it.sent(5)
    assert it.can_raise_commit(3)
    it.sent_commit = 5
    assert not it.can_raise_commit(9)


def test_an_echo_confirms_the_reads_of_its_round_and_earlier() -> None:
    reads = ReadOnly()
    assert reads.heartbeat_context(1) == b""
    assert reads.add(1, b"a", 7)
    assert reads.add(2, b"b", 7)
    first = reads.heartbeat_context(1)
    assert reads.add(1, b"c", 8)
    assert first == (1).to_bytes(8, "little")
    assert not reads.acknowledge(2, b"")
    assert not reads.acknowledge(2, (2).to_bytes(8, "little"))  # not sent yet
    assert reads.acknowledge(2, first)
    assert not reads.acknowledge(2, first)
    assert [request.context for request in reads.take_confirmed(1)] == [b"a", b"b"]
    second = reads.heartbeat_context(1)
    assert second == reads.heartbeat_context(1)
    assert reads.acknowledge(2, second)
    assert [request.context for request in reads.take_confirmed(2)] == [b"c"]
    assert reads.heartbeat_context(1) == b""
