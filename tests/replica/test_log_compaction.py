"""Log compaction: the log records only a snapshot that is durable in the backend, however late the backend commits."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from tercet.raft.types import Entry
from tercet.replica.log_compaction import COMPACTED_BYTES_IN_TURN, COMPACTED_IN_TURN
from tercet.replica.replica import Options
from tercet.storage.memory_backend import MemoryBackend
from tests.replica.lone_member import LoneMember, put_entry


class LateBackend(MemoryBackend):
    """Commits when the test calls `finish_commits`; a commit covers what was applied when it was requested."""

    def __init__(self) -> None:
        super().__init__()
        self.is_late = False
        self.late: list[tuple[tuple[int, int], Callable[[], None] | None]] = []

    def commit(self, then: Callable[[], None] | None = None) -> None:
        if self.is_late:
            self.late.append((self._point, then))
        else:
            super().commit(then)

    def finish_commits(self) -> None:
        late, self.late = self.late, []
        for point, then in late:
            self._durable = point
            if then is not None:
                then()


def member_with_late_backend() -> tuple[LoneMember, LateBackend]:
    """A follower that has applied entries up to 12, with a log compaction requested at one of them."""
    backend = LateBackend()
    member = LoneMember(backend, options=Options(snapshot_entries=5, catch_up_entries=1))
    member.follow([put_entry(2, index, b"k") for index in range(4, 6)], commit=5)
    backend.is_late = True
    for index in range(6, 13):
        member.follow([put_entry(2, index, b"k")], commit=index)
    return member, backend


def test_no_snapshot_is_recorded_before_the_backend_has_committed() -> None:
    member, backend = member_with_late_backend()
    assert backend.late, "a compaction has requested a commit"
    before = member.disk.wal._snapshot
    member.settle()
    assert member.disk.wal._snapshot == before
    assert member.raft.log.first_index <= backend.applied_index


def test_the_recorded_snapshot_is_not_newer_than_the_commit() -> None:
    """Entries applied while the backend commits are not in that commit: a restart still needs them from the log."""
    member, backend = member_with_late_backend()
    (point, _) = backend.late[0]
    assert point[0] < member.replica.applied_index == 12
    backend.finish_commits()
    member.settle()
    snapshot = member.disk.wal._snapshot
    assert snapshot is not None
    assert (snapshot.index, snapshot.term) == point
    assert snapshot.index <= backend.applied_index


def test_many_entries_that_were_kept_are_dropped_in_several_turns() -> None:
    """After a receiver has caught up they may be 200,000."""
    member = LoneMember(options=Options(snapshot_entries=50_000, catch_up_entries=10))
    first = member.raft.log.first_index
    last = member.replica.applied_index
    for start in range(last + 1, last + 50_001, 1000):
        member.follow([Entry(2, index, b"") for index in range(start, start + 1000)], commit=start + 999)
        member.settle()
    dropped = []
    for index in range(last + 50_001, last + 50_011):
        before = member.raft.log.first_index
        member.follow([put_entry(2, index, b"k")], commit=index)
        member.settle()
        dropped.append(member.raft.log.first_index - before)
    assert 0 < max(dropped) <= COMPACTED_IN_TURN
    assert member.raft.log.first_index - first >= 49_000


def test_large_entries_are_dropped_in_several_turns_also_of_an_idle_member() -> None:
    """To free 256 MiB at once takes 60 ms."""
    size = COMPACTED_BYTES_IN_TURN // 4
    member = LoneMember(options=Options(snapshot_entries=20, catch_up_entries=1))
    last = member.replica.applied_index
    entries = [put_entry(2, last + 1 + number, b"k", bytes(size)) for number in range(20)]
    member.follow(entries, commit=last + 20)
    sizes = [member.raft.log.size_bytes]
    for _ in range(10):
        member.replica.tick()
        member.settle()
        sizes.append(member.raft.log.size_bytes)
    assert len(set(sizes)) >= 3
    assert max(before - after for before, after in pairwise(sizes)) <= COMPACTED_BYTES_IN_TURN + 2 * size
    assert sizes[-1] <= COMPACTED_BYTES_IN_TURN + size
