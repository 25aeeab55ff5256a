"""The write-ahead log on a simulated disk: after a crash it holds what was synced, and nothing that was not appended."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.errors import StorageFailure
from tercet.raft.types import ConfState, Entry, EntryType, HardState, Snapshot
from tercet.sim.filesystem import SimulatedFileSystem
from tercet.storage import wal_format as form
from tercet.storage.os_filesystem import OsFileSystem
from tercet.storage.wal import WAL
from tercet.storage.wal_recovery import Recovered
from tests.support.properties import examples

SEGMENT_BYTES = 8192
SALT = b"saltsalt"


def entries(first: int, count: int, *, term: int = 1, size: int = 50) -> list[Entry]:
    return [Entry(term, index, bytes((index % 256,)) * size) for index in range(first, first + count)]


def create(fs: SimulatedFileSystem) -> WAL:
    return WAL.create(fs, "wal", b"whose", segment_bytes=SEGMENT_BYTES, salt=SALT)


def reopen(fs: SimulatedFileSystem) -> tuple[WAL, Recovered]:
    return WAL.open(fs, "wal", segment_bytes=SEGMENT_BYTES)


def snapshot(index: int, term: int = 1) -> Snapshot:
    return Snapshot(index, term, ConfState(voters=(1, 2, 3), learners=(4,)), b"{}")


def test_what_was_synced_survives_a_crash() -> None:
    fs = SimulatedFileSystem()
    wal = create(fs)
    log = [*entries(1, 3), Entry(1, 4, b"change", EntryType.CONF_CHANGE), Entry(2, 5)]
    wal.append(HardState(1, 2, 0), log[:2])
    wal.append(None, log[2:])
    wal.append(HardState(2, 0, 4), ())
    wal.sync()
    fs.crash(Random(0))
    _, found = reopen(fs)
    assert found == Recovered(b"whose", HardState(2, 0, 4), None, log, None)
    assert [entry.wire for entry in found.entries] == [entry.wire for entry in log]


@pytest.mark.parametrize("seed", range(20))
def test_a_restart_after_a_failed_fsync_syncs_what_it_reads(seed: int) -> None:
    """The process ends after the failure and starts again without a power cut; then the power fails."""
    fs = SimulatedFileSystem()
    wal = create(fs)
    wal.append(HardState(1, 2, 0), entries(1, 3))
    wal.sync()
    wal.append(HardState(2, 3, 1), entries(4, 20, term=2))
    fs.fail_syncs = True
    with pytest.raises(StorageFailure, match="input/output error"):
        wal.sync()
    fs.fail_syncs = False
    _, read = reopen(fs)
    fs.crash(Random(seed))
    _, found = reopen(fs)
    assert (found.hard_state, found.entries) == (read.hard_state, read.entries)


def test_a_new_log_is_empty() -> None:
    fs = SimulatedFileSystem()
    assert not WAL.exists(fs, "wal")
    create(fs)
    fs.crash(Random(0))
    assert WAL.exists(fs, "wal")
    assert reopen(fs)[1] == Recovered(b"whose", HardState(), None, [], None)


def test_create_refuses_to_overwrite_a_log() -> None:
    fs = SimulatedFileSystem()
    create(fs)
    with pytest.raises(StorageFailure, match="already exists in wal"):
        create(fs)


def test_opening_a_missing_log_names_its_directory() -> None:
    with pytest.raises(StorageFailure, match="no write-ahead log in nowhere"):
        WAL.open(SimulatedFileSystem(), "nowhere")


def test_an_entry_with_an_index_in_the_log_truncates_the_log() -> None:
    fs = SimulatedFileSystem()
    wal = create(fs)
    wal.append(HardState(1, 1, 1), entries(1, 9))
    wal.sync()
    wal.append(HardState(2, 0, 1), entries(4, 2, term=2))
    wal.sync()
    assert reopen(fs)[1].entries == entries(1, 3) + entries(4, 2, term=2)


def test_entries_start_after_the_newest_snapshot() -> None:
    fs = SimulatedFileSystem()
    wal = create(fs)
    wal.append(HardState(1, 1, 6), entries(1, 8))
    wal.save_snapshot(snapshot(3))
    wal.save_snapshot(snapshot(5))
    wal.sync()
    found = reopen(fs)[1]
    assert found.snapshot == snapshot(5)
    assert found.entries == entries(6, 3)


def test_a_snapshot_beyond_the_log_replaces_it() -> None:
    """The leader sent a snapshot: older entries are dropped, and the next entry follows the snapshot."""
    fs = SimulatedFileSystem()
    wal = create(fs)
    wal.append(HardState(1, 1, 2), entries(1, 4))
    wal.save_snapshot(snapshot(100, term=3))
    wal.sync()
    found = reopen(fs)[1]
    assert (found.snapshot, found.entries) == (snapshot(100, term=3), [])
    assert found.hard_state == HardState(3, 0, 100), "a snapshot proves a commit index and a term, not a vote"
    wal, _ = reopen(fs)
    wal.append(None, entries(101, 2, term=3))
    wal.sync()
    assert reopen(fs)[1].entries == entries(101, 2, term=3)


def test_a_snapshot_with_another_term_replaces_the_entries() -> None:
    fs = SimulatedFileSystem()
    wal = create(fs)
    wal.append(HardState(1, 1, 0), entries(1, 9, term=1))
    wal.save_snapshot(snapshot(5, term=2))
    wal.sync()
    found = reopen(fs)[1]
    assert (found.snapshot, found.entries) == (snapshot(5, term=2), [])


def test_segments_are_released_only_up_to_a_durable_snapshot() -> None:
    fs = SimulatedFileSystem()
    wal = create(fs)
    for first in range(1, 400, 4):
        wal.append(HardState(1, 1, first), entries(first, 4))
        wal.sync()
        wal.prepare_next()
    before = len(wal.segments)
    assert before >= 4
    wal.release(300)
    assert len(wal.segments) == before, "no snapshot yet: every segment is needed"
    wal.save_snapshot(snapshot(200))
    wal.release(300)
    assert len(wal.segments) == before, "the snapshot is not durable yet"
    wal.sync()
    wal.release(150)
    kept_for_followers = len(wal.segments)
    assert kept_for_followers < before
    wal.release(300)
    assert len(wal.segments) < kept_for_followers
    wal.close()
    fs.crash(Random(1))
    found = reopen(fs)[1]
    assert found.snapshot == snapshot(200)
    assert found.entries == entries(201, 200)


def test_a_spare_segment_is_used_after_reopening() -> None:
    fs = SimulatedFileSystem()
    wal = create(fs)
    wal.prepare_next()
    wal, _ = reopen(fs)
    names = fs.list("wal")
    assert len(names) == 2
    wal.append(None, entries(1, 60, size=100))
    wal.sync()
    wal.append(None, entries(61, 9, size=100))
    wal.sync()
    assert fs.list("wal") == names
    assert reopen(fs)[1].entries == entries(1, 69, size=100)


def test_a_record_larger_than_a_segment_gets_a_segment_of_its_own() -> None:
    fs = SimulatedFileSystem()
    wal = create(fs)
    big = Entry(1, 1, b"x" * (3 * SEGMENT_BYTES))
    wal.append(None, [big])
    wal.sync()
    wal.append(None, entries(2, 1))
    wal.sync()
    assert reopen(fs)[1].entries == [big, *entries(2, 1)]


def test_the_head_of_a_segment_describes_only_the_records_before_it() -> None:
    """The commit index, term and snapshot of the following batch are not durable yet, and must not be in the head."""
    fs = SimulatedFileSystem()
    wal = create(fs)
    wal.append(HardState(1, 1, 1), entries(1, 60, size=100))
    wal.save_snapshot(snapshot(1))
    wal.sync()
    wal.append(HardState(2, 0, 120), entries(61, 60, size=100))
    wal.sync()
    data = fs.open(wal.segments[1]).pread(SEGMENT_BYTES, 0)
    record = form.parse_record(data, 0, form.seed_of(SALT))
    assert record is not None
    head = form.parse_head(bytes(record.body), lambda offset, text: StorageFailure(text))
    assert head == form.Head(1, 61, SALT, HardState(1, 1, 1), b"whose", snapshot(1))


def test_open_syncs_what_it_reads() -> None:
    """The process, not the system, ended between write and fsync: what the next process reads must survive a crash."""
    for seed in range(20):
        fs = SimulatedFileSystem()
        wal = create(fs)
        wal.append(HardState(1, 1, 0), entries(1, 20, size=100))
        fs.calls_left = 1
        with pytest.raises(StorageFailure, match="power is off"):
            wal.sync()
        fs.calls_left = None
        found = reopen(fs)[1]
        assert len(found.entries) == 20
        fs.crash(Random(seed))
        assert reopen(fs)[1] == found


def test_a_failed_fsync_is_not_repeated() -> None:
    """A second fsync would succeed over pages that the first one dropped."""
    fs = SimulatedFileSystem()
    wal = create(fs)
    wal.append(None, entries(1, 1))
    fs.fail_syncs = True
    with pytest.raises(StorageFailure, match="fdatasync wal/"):
        wal.sync()
    fs.fail_syncs = False
    wal.append(None, entries(2, 1))
    with pytest.raises(StorageFailure, match=r"has failed: fdatasync wal/"):
        wal.sync()
    fs.crash(Random(0))
    assert reopen(fs)[1].entries == []


def test_a_missing_segment_is_reported() -> None:
    fs = SimulatedFileSystem()
    wal = create(fs)
    for first in range(1, 400, 4):
        wal.append(None, entries(first, 4))
        wal.sync()
    assert len(wal.segments) >= 3
    fs.remove(wal.segments[1])
    with pytest.raises(StorageFailure, match=r"0000000000000001\.wal is missing"):
        reopen(fs)


def test_segments_of_another_log_are_rejected() -> None:
    fs = SimulatedFileSystem()
    for directory, salt in (("wal", SALT), ("other", b"another!")):
        wal = WAL.create(fs, directory, b"whose", segment_bytes=SEGMENT_BYTES, salt=salt)
        for first in range(1, 200, 4):
            wal.append(None, entries(first, 4))
            wal.sync()
    fs.rename("other/0000000000000001.wal", "wal/0000000000000001.wal")
    with pytest.raises(StorageFailure, match=r"0000000000000001.wal at offset 0"):
        reopen(fs)


def test_on_the_real_disk(tmp_path: Path) -> None:
    fs = OsFileSystem()
    directory = str(tmp_path / "wal")
    wal = WAL.create(fs, directory, b"whose", segment_bytes=1 << 20)
    wal.prepare_next()
    written: list[Entry] = []
    for first in range(1, 2001, 100):
        batch = entries(first, 100, size=1000)
        wal.append(HardState(1, 1, first), batch)
        wal.sync()
        written += batch
    wal.save_snapshot(snapshot(1500))
    wal.close()
    assert len(wal.segments) > 1
    wal, found = WAL.open(fs, directory, segment_bytes=1 << 20)
    assert found.entries == written[1500:]
    wal.release(1500)
    wal.close()
    wal, found = WAL.open(fs, directory, segment_bytes=1 << 20)
    wal.close()
    assert found.entries == written[1500:]
    assert found.repaired is None


@examples(150)
@given(seed=st.integers(0, 2**32))
def test_a_power_failure_at_any_call(seed: int) -> None:
    """Random writes, a power failure at a random call, three times: no synced record is lost, and no other appears."""
    random = Random(seed)
    fs = SimulatedFileSystem()
    model = _Model(create(fs))
    for _ in range(3):
        fs.calls_left = random.randrange(1, 120)
        with pytest.raises(StorageFailure, match="power is off"):
            model.write_forever(random)
        fs.crash(random)
        model.wal, found = reopen(fs)
        model.check(found)


class _Model:
    """What was appended, and the states that a crash may leave: the last synced one, and each appended since."""

    def __init__(self, wal: WAL) -> None:
        self.wal = wal
        self.state = HardState(1, 0, 0)
        self.snapshot: Snapshot | None = None
        self.log: list[Entry] = []  # all entries from index 1 on, also those before the snapshot
        self.possible: list[tuple[HardState, Snapshot | None, list[Entry]]] = [(HardState(), None, [])]

    def write_forever(self, random: Random) -> None:
        while True:
            self.take_step(random)

    def take_step(self, random: Random) -> None:
        match random.randrange(8):
            case 0:
                if self.state.commit > 0:
                    index = random.randint(max(1, self.snapshot.index if self.snapshot else 1), self.state.commit)
                    self.snapshot = snapshot(index, self.log[index - 1].term)
                    self.wal.save_snapshot(self.snapshot)
                    self._now_possible()
                    self._sync()
            case 1:
                self.wal.prepare_next()
            case 2:
                self.wal.release(random.randint(0, len(self.log)))
            case 3:
                term = self.state.term + 1
                self.state = HardState(term, random.randint(0, 3), self.state.commit)
                self._append(random.randint(self.state.commit, len(self.log)) + 1, random)
            case _:
                self._append(len(self.log) + 1, random)

    def _append(self, first: int, random: Random) -> None:
        batch = entries(first, random.randint(0, 9), term=self.state.term, size=random.choice((1, 50, 700)))
        if batch:
            self.log = self.log[: first - 1] + batch
        self.state = self.state._replace(commit=max(self.state.commit, random.randint(0, len(self.log))))
        self.wal.append(self.state, batch)
        self._now_possible()
        self._sync()

    def _now_possible(self) -> None:
        self.possible.append((self.state, self.snapshot, list(self.log)))

    def _sync(self) -> None:
        self.wal.sync()
        self.possible = self.possible[-1:]

    def check(self, found: Recovered) -> None:
        base = found.snapshot.index if found.snapshot else 0
        for state, snapshot, log in self.possible:
            if (found.hard_state, found.snapshot, found.entries) == (state, snapshot, log[base:]):
                self.state = state if state.term else HardState(1, 0, 0)
                self.snapshot, self.log = snapshot, log
                self.possible = [(state, snapshot, log)]
                return
        raise AssertionError(f"found {found}, expected one of {self.possible}")
