"""Known bugs of write-ahead logs: D18 (names not fsynced), D19 (torn or damaged), D21 (disk full)."""

from __future__ import annotations

import copy
from contextlib import suppress
from random import Random

import pytest

from tercet.errors import StorageFailure
from tercet.raft.types import ConfState, Entry, HardState, Snapshot
from tercet.sim.filesystem import SimulatedFileSystem
from tercet.storage import wal_format as form
from tercet.storage.wal import WAL
from tercet.storage.wal_recovery import Recovered

SEGMENT_BYTES = 16 << 10
FIRST = "wal/0000000000000000.wal"
SECOND = "wal/0000000000000001.wal"


def entry(index: int, size: int = 100) -> Entry:
    return Entry(1, index, Random(index).randbytes(size))  # random bytes: no sector of them is all zeros


def new_log(fs: SimulatedFileSystem, records: int, *, size: int = 100) -> WAL:
    """One entry per record, each synced."""
    wal = WAL.create(fs, "wal", b"whose", segment_bytes=SEGMENT_BYTES, salt=b"saltsalt")
    for index in range(1, records + 1):
        wal.append(HardState(1, 1, index - 1), [entry(index, size)])
        wal.sync()
    return wal


def reopen(fs: SimulatedFileSystem) -> Recovered:
    wal, found = WAL.open(fs, "wal", segment_bytes=SEGMENT_BYTES)
    wal.append(None, [Entry(9, len(found.entries) + 1, b"continued")])
    wal.sync()
    again = WAL.open(fs, "wal", segment_bytes=SEGMENT_BYTES)[1]
    assert again.repaired is None, "a repaired log needs no second repair"
    assert again.entries[:-1] == found.entries
    return found


def overwrite(fs: SimulatedFileSystem, path: str, offset: int, data: bytes) -> None:
    fs.open(path).pwrite(data, offset)


def content(fs: SimulatedFileSystem, path: str) -> bytes:
    file = fs.open(path)
    return file.pread(file.size(), 0).rstrip(b"\0")


@pytest.mark.parametrize("calls", range(40))
def test_d18_lost_names_never_lose_the_log(calls: int) -> None:
    """The power fails at each call while a log is created and changes segments; each unsynced name is kept or lost."""
    for seed in range(8):
        fs = SimulatedFileSystem()
        fs.calls_left = calls
        durable = 0
        with suppress(StorageFailure):
            wal = WAL.create(fs, "wal", b"whose", segment_bytes=SEGMENT_BYTES)
            for index in range(1, 9):
                wal.append(None, [entry(index, size=5000)])
                wal.sync()
                durable = index
                if index % 2:
                    wal.prepare_next()
        fs.crash(Random(seed))
        if durable or WAL.exists(fs, "wal"):
            assert len(reopen(fs).entries) >= durable
        else:
            WAL.create(
                fs, "wal", b"whose", segment_bytes=SEGMENT_BYTES
            )  # leftovers of the first start do not prevent the second


@pytest.mark.parametrize("calls", range(14))
def test_d18_lost_removals_leave_no_gap(calls: int) -> None:
    """Segments are removed one by one: whichever removal a crash takes back, the remaining numbers have no gap."""
    for seed in range(8):
        fs = SimulatedFileSystem()
        wal = new_log(fs, 60, size=1000)
        wal.append(HardState(1, 1, 60), ())
        wal.save_snapshot(Snapshot(55, 1, ConfState(voters=(1,))))
        wal.sync()
        assert len(wal.segments) >= 4
        fs.calls_left = calls
        with suppress(StorageFailure):
            wal.release(55)
        fs.crash(Random(seed))
        found = WAL.open(fs, "wal", segment_bytes=SEGMENT_BYTES)[1]
        assert found.entries == [entry(index, 1000) for index in range(56, 61)]


def test_d19_a_tail_torn_at_any_byte_keeps_the_complete_records() -> None:
    """The file ends within its last three records, with or without zeros after that: complete records stay, the rest is cut."""
    fs = SimulatedFileSystem()
    new_log(fs, 3)
    whole = content(fs, FIRST)
    ends = _record_ends(whole)
    for cut in range(ends[0], len(whole)):
        for zeros_follow in (False, True):
            twin = copy.deepcopy(fs)
            file = twin.open(FIRST)
            file.truncate(cut)
            if zeros_follow:
                file.truncate(SEGMENT_BYTES)
            found = reopen(twin)
            kept = [end for end in ends if end - 4 <= cut]  # the last 4 bytes, `end`, are not needed to read a record
            assert len(found.entries) == len(kept) - 1, cut
            if cut <= kept[-1]:
                assert found.repaired is None
            else:
                assert found.repaired is not None
                assert content(twin, FIRST + ".broken") == whole[:cut].rstrip(b"\0")
                assert f"at offset {kept[-1]} of {FIRST}" in found.repaired


def test_d19_lost_sectors_of_the_last_write_lose_only_that_record() -> None:
    """Any of the sectors of one write are lost: the record is cut, and all before it stays."""
    fs = SimulatedFileSystem()
    wal = new_log(fs, 2)
    wal.append(None, [entry(index, 700) for index in range(3, 8)])
    fs.calls_left = 1
    with pytest.raises(StorageFailure, match="power is off"):
        wal.sync()
    outcomes = set()
    for seed in range(60):
        twin = copy.deepcopy(fs)
        twin.crash(Random(seed))
        outcomes.add(len(reopen(twin).entries))
    assert outcomes == {2, 7}, "the record is complete or absent"


def test_d19_a_valid_record_after_a_torn_one_of_the_same_write_is_cut_too() -> None:
    """Two records in one write that was not synced, the first one torn: this is a torn tail, not damage."""
    fs = SimulatedFileSystem()
    wal = new_log(fs, 2)
    offset = len(content(fs, FIRST))
    wal.append(None, [entry(3, 2000)])
    wal.save_snapshot(Snapshot(1, 1, ConfState(voters=(1,))))
    wal.sync()
    overwrite(fs, FIRST, 1024, bytes(512))
    found = reopen(fs)
    assert found.snapshot is None
    assert len(found.entries) == 2
    assert f"at offset {offset} of" in (found.repaired or "")


def test_d19_a_flipped_bit_in_the_middle_is_rejected_with_file_and_offset() -> None:
    fs = SimulatedFileSystem()
    new_log(fs, 6)
    whole = content(fs, FIRST)
    ends = _record_ends(whole)
    for bit in range(0, (ends[5]) * 8, 41):
        offset = max((end for end in [0, *ends] if end * 8 <= bit), default=0)
        if _in_end(bit // 8, ends):
            continue  # `end` is not needed to read a valid record
        twin = copy.deepcopy(fs)
        twin.flip_bit(FIRST, bit)
        with pytest.raises(StorageFailure, match=rf"{FIRST} at offset {offset}: "):
            WAL.open(twin, "wal", segment_bytes=SEGMENT_BYTES)


def test_d19_a_flipped_bit_in_the_last_record_is_rejected() -> None:
    """No part of it is missing, so this is no torn write: cutting it would lose an acknowledged entry."""
    fs = SimulatedFileSystem()
    new_log(fs, 3)
    whole = content(fs, FIRST)
    ends = _record_ends(whole)
    for bit in range(ends[2] * 8, len(whole) * 8):
        if not _in_end(bit // 8, ends):
            twin = copy.deepcopy(fs)
            twin.flip_bit(FIRST, bit)
            with pytest.raises(StorageFailure, match=rf"{FIRST} at offset {ends[2]}: "):
                WAL.open(twin, "wal", segment_bytes=SEGMENT_BYTES)


def test_d19_zeroed_sectors_in_the_middle_are_rejected() -> None:
    """They look like a torn write, but a later record was written when they were durable."""
    fs = SimulatedFileSystem()
    new_log(fs, 20)
    overwrite(fs, FIRST, 1024, bytes(512))
    with pytest.raises(StorageFailure, match="wrong crc in a record that was durable when the record at offset"):
        WAL.open(fs, "wal", segment_bytes=SEGMENT_BYTES)


def test_d19_damage_in_an_older_segment_is_rejected() -> None:
    fs = SimulatedFileSystem()
    wal = new_log(fs, 25, size=1000)
    assert len(wal.segments) == 2
    end = len(content(fs, FIRST))
    twin = copy.deepcopy(fs)
    overwrite(twin, FIRST, end - 600, bytes(600))
    with pytest.raises(StorageFailure, match=rf"{FIRST} at offset \d+: .*a later segment"):
        WAL.open(twin, "wal", segment_bytes=SEGMENT_BYTES)
    last = _record_ends(content(fs, FIRST))[-2]
    overwrite(fs, FIRST, last, bytes(end - last))  # a complete record is gone, so that the file itself looks undamaged
    with pytest.raises(StorageFailure, match=rf"{SECOND} at offset 0: .*records are missing"):
        WAL.open(fs, "wal", segment_bytes=SEGMENT_BYTES)


@pytest.mark.parametrize("salt", [b"a guess!", b"saltsalt"])
def test_d19_a_value_that_looks_like_a_record_is_not_read_as_one(salt: bytes) -> None:
    """A client stores a value that is a record with a large `synced_to`. Without the salt, its crc is wrong."""
    fake, _ = form.encode_record(form.BATCH, [bytes(24)], 24, synced_to=2**32 - 1, previous_crc=0, seed=form.seed_of(salt))
    accepted = 0
    for shift in range(8):
        fs = SimulatedFileSystem()
        wal = new_log(fs, 2)
        torn_at = len(content(fs, FIRST))
        wal.append(None, [Entry(1, 3, bytes(shift) + fake + entry(3, 1500).data)])
        wal.sync()
        overwrite(fs, FIRST, (torn_at // 512 + 2) * 512, bytes(512))
        try:
            assert len(reopen(fs).entries) == 2
        except StorageFailure:
            accepted += 1
    assert accepted == (salt == b"saltsalt"), "one of 8 positions has the alignment of a record"


def test_d21_a_full_disk_stops_the_log_and_it_restarts_with_space() -> None:
    fs = SimulatedFileSystem(space_left=5 * SEGMENT_BYTES // 2)
    wal = WAL.create(fs, "wal", b"whose", segment_bytes=SEGMENT_BYTES)
    wal.prepare_next()
    durable: list[Entry] = []

    def write_until_full() -> None:
        while True:
            wal.append(None, [entry(len(durable) + 1, 1000)])
            wal.sync()
            durable.append(entry(len(durable) + 1, 1000))

    with pytest.raises(StorageFailure, match="no space left on device"):
        write_until_full()
    with pytest.raises(StorageFailure, match=r"wal has failed: .*no space"):
        wal.sync()
    assert len(durable) > 20
    assert not [name for name in fs.list("wal") if name.endswith(".tmp")]
    assert fs.space_left is not None
    fs.space_left += SEGMENT_BYTES
    fs.crash(Random(3))
    wal, found = WAL.open(fs, "wal", segment_bytes=SEGMENT_BYTES)
    assert found.entries == durable
    wal.append(None, [entry(len(durable) + 1, 1000)])
    wal.sync()


def test_d21_a_full_disk_in_housekeeping_is_not_a_failure() -> None:
    fs = SimulatedFileSystem(space_left=3 * SEGMENT_BYTES // 2)
    wal = WAL.create(fs, "wal", b"whose", segment_bytes=SEGMENT_BYTES)
    with pytest.raises(StorageFailure, match="no space left"):
        wal.prepare_next()
    wal.append(None, [entry(1)])
    wal.sync()
    assert len(reopen(fs).entries) == 1


def _record_ends(whole: bytes) -> list[int]:
    """The end offset of each record, the head's first, by the length fields."""
    ends, at = [], 0
    while at < len(whole):
        length = int.from_bytes(whole[at + 8 : at + 12], "big")
        at += (20 + length + 7) // 8 * 8 + 8
        ends.append(at)
    return ends


def _in_end(byte: int, ends: list[int]) -> bool:
    return any(end - 4 <= byte < end for end in ends)
