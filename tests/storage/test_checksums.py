"""Every record has a checksum: a damaged record is never returned as data, and the scrub finds damage in unread records."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from mmap import PAGESIZE
from pathlib import Path
from random import Random

import lmdb
import pytest

from tercet.errors import CorruptRecord, StorageFailure
from tercet.proto import kv_pb2
from tercet.storage.checksums import protect, read_chunk, seed_of, verify
from tercet.storage.interfaces import Bucket, ReadView
from tercet.storage.lmdb_backend import LmdbBackend

PACKED = b"a record of a pack"
VALUES = {number: b"value-%04d|" % number * 9 for number in range(300)}


def revision_key(number: int) -> bytes:
    return number.to_bytes(8, "big") + b"_" + bytes(8)


def stored_pair(number: int) -> bytes:
    return kv_pb2.KeyValue(key=b"key-%d" % number, value=VALUES[number], mod_revision=number).SerializeToString()


def make(directory: Path) -> Path:
    """A database with all `VALUES`; returns its file."""
    backend = LmdbBackend(str(directory))
    for number in VALUES:
        backend.put(Bucket.KEY, revision_key(number), stored_pair(number))
    backend.put(Bucket.AUTH_USERS, b"u" * 600, PACKED)
    backend.applied(1, 1)
    backend.close()
    (path,) = directory.glob("*.lmdb")
    return path


def damage(path: Path, number: int, change: Callable[[bytes], bytes] = lambda value: value.replace(b"|", b"!", 1)) -> None:
    """Change the value of one record in the file."""
    data = path.read_bytes()
    assert data.count(VALUES[number]) == 1
    path.write_bytes(data.replace(VALUES[number], change(VALUES[number])))


def erase_page(path: Path, value: bytes) -> None:
    """Fill the page of one record with zeros."""
    data = path.read_bytes()
    assert data.count(value) == 1
    start = data.index(value) // PAGESIZE * PAGESIZE
    with path.open("r+b") as file:
        file.seek(start)
        file.write(bytes(PAGESIZE))


def test_any_flipped_bit_is_detected() -> None:
    seed = seed_of(Bucket.KEY)
    key, value = b"key", b"some value"
    ((_, stored),) = protect(seed, [(key, value)])
    assert verify(seed, key, stored) == value
    for bit in range(8 * len(stored)):
        flipped = bytearray(stored)
        flipped[bit // 8] ^= 1 << bit % 8
        assert verify(seed, key, bytes(flipped)) is None
    for bit in range(8 * len(key)):
        flipped = bytearray(key)
        flipped[bit // 8] ^= 1 << bit % 8
        assert verify(seed, bytes(flipped), stored) is None
    assert verify(seed_of(Bucket.META), key, stored) is None, "a record of another bucket"
    for length in range(len(stored)):
        assert verify(seed, key, stored[:length]) is None


def test_chunks_are_bounded_in_count_and_bytes() -> None:
    seed = seed_of(Bucket.KEY)
    records = protect(seed, [(b"%02d" % number, bytes(100)) for number in range(20)])
    assert len(read_chunk(seed, iter(records), 7, 1 << 20)[0]) == 7
    assert len(read_chunk(seed, iter(records), 100, 350)[0]) == 4
    assert len(read_chunk(seed, iter(records), 100, 1 << 20)[0]) == 20


def test_every_read_of_a_damaged_record_fails_with_its_revision_and_key(tmp_path: Path) -> None:
    path = make(tmp_path / "db")
    damage(path, 7)
    reported: list[CorruptRecord] = []
    backend = LmdbBackend(str(tmp_path / "db"), on_corruption=reported.append)
    views: list[ReadView] = []
    backend.view(views.append)
    reads: list[Callable[[], object]] = [
        lambda: backend.get(Bucket.KEY, revision_key(7)),
        lambda: list(backend.scan(Bucket.KEY)),
        lambda: views[0].get(Bucket.KEY, revision_key(7)),
        lambda: list(views[0].scan(Bucket.KEY, revision_key(5))),
    ]
    for read in reads:
        with pytest.raises(CorruptRecord, match=rf"^database {path}: wrong checksum of revision 7\.0, key b'key-7'$"):
            read()
    assert len(reported) == 1, "each record is reported once"
    assert backend.get(Bucket.KEY, revision_key(8)) == stored_pair(8)
    assert len(list(views[0].scan(Bucket.KEY, revision_key(8)))) == 292
    backend.put(Bucket.KEY, revision_key(7), stored_pair(7))  # valid once rewritten
    assert backend.get(Bucket.KEY, revision_key(7)) == stored_pair(7)
    views[0].close()
    backend.applied(2, 1)
    backend.close()


def test_a_record_moved_to_another_key_is_rejected(tmp_path: Path) -> None:
    path = make(tmp_path / "db")
    data = path.read_bytes()
    assert data.count(revision_key(9)) == 1
    path.write_bytes(data.replace(revision_key(9), (9).to_bytes(8, "big") + b"_" + (1).to_bytes(8, "big")))
    backend = LmdbBackend(str(tmp_path / "db"))
    with pytest.raises(CorruptRecord, match=r"revision 9\.1"):
        list(backend.scan(Bucket.KEY))
    backend.close()


def test_the_scrub_finds_damage_in_records_that_are_not_read(tmp_path: Path) -> None:
    path = make(tmp_path / "db")
    for number in (3, 260, 261):
        damage(path, number)

    async def test() -> None:
        reported: list[str] = []
        loop = asyncio.get_running_loop()
        backend = LmdbBackend(
            str(tmp_path / "db"), loop=loop, on_corruption=lambda record: reported.append(str(record)), scrub_seconds=0
        )
        assert backend._scrubber is not None
        while backend._scrubber.rounds < 2:
            await asyncio.sleep(0.001)
        assert [line.rpartition(" of ")[2] for line in reported] == [
            "revision 3.0, key b'key-3'",
            "revision 260.0, key b'key-260'",
            "revision 261.0, key b'key-261'",
        ]
        backend.close()

    asyncio.run(asyncio.wait_for(test(), 60))


def test_the_scrub_reports_a_damaged_page_and_goes_on(tmp_path: Path) -> None:
    path = make(tmp_path / "db")

    async def test() -> None:
        reported: list[str] = []
        loop = asyncio.get_running_loop()
        backend = LmdbBackend(
            str(tmp_path / "db"), loop=loop, on_corruption=lambda record: reported.append(str(record)), scrub_seconds=0
        )
        erase_page(path, PACKED)  # before, the start would find it
        assert backend._scrubber is not None
        while backend._scrubber.rounds < 2:
            await asyncio.sleep(0.001)
        (line,) = reported
        assert line.startswith(f"database {path} is damaged: ")
        assert line.endswith(" (bucket authUsers)")
        backend.close()

    asyncio.run(asyncio.wait_for(test(), 60))


def test_the_scrub_of_an_intact_database_reports_nothing_under_load(tmp_path: Path) -> None:
    async def test() -> None:
        reported: list[CorruptRecord] = []
        loop = asyncio.get_running_loop()
        backend = LmdbBackend(
            str(tmp_path / "db"), loop=loop, on_corruption=reported.append, batch_seconds=0.001, scrub_seconds=0
        )
        assert backend._scrubber is not None
        random = Random(1)
        index = 0
        while backend._scrubber.rounds < 3:
            for _ in range(20):
                index += 1
                backend.put(Bucket.KEY, revision_key(random.randrange(2000)), random.randbytes(100))
                backend.delete(Bucket.KEY, revision_key(random.randrange(2000)))
                backend.applied(index, 1)
            if index % 200 == 0:
                backend.defragment(lambda: None)
            await asyncio.sleep(0)
        backend.close()
        assert reported == []

    asyncio.run(asyncio.wait_for(test(), 60))


def test_a_database_without_checksums_is_rejected(tmp_path: Path) -> None:
    path = make(tmp_path / "db")
    with lmdb.open(str(path), subdir=False, max_dbs=20) as env, env.begin(write=True) as txn:
        txn.delete(b"tercet format")
    with pytest.raises(StorageFailure, match=rf"^database {path} has format 1, and this version of tercet needs 2: "):
        LmdbBackend(str(tmp_path / "db"))
