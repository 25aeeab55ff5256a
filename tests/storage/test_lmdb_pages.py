"""A truncated database is rejected before it is mapped; an intact one is accepted, whatever length LMDB gave its file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import lmdb
import pytest

from tercet.errors import DamagedDatabase, StorageFailure
from tercet.storage.interfaces import Bucket
from tercet.storage.lmdb_backend import LmdbBackend
from tercet.storage.lmdb_file import LmdbFile
from tercet.storage.lmdb_pages import check_complete

PAGE = 4096

_READ_ALL = """
import sys, lmdb
env = lmdb.open(sys.argv[1], subdir=False, max_dbs=4, readonly=True, lock=False)
table = env.open_db(b"table", create=False)
with env.begin() as txn:
    print(sum(len(value) for _, value in txn.cursor(table)))
"""


def is_refused(path: Path) -> bool:
    fd = os.open(path, os.O_RDONLY)
    try:
        check_complete(fd, str(path))
    except StorageFailure:
        return True
    finally:
        os.close(fd)
    return False


def random_commits(path: Path, random: Random, commits: int) -> int:
    """Puts and deletes in random order. Returns how often LMDB left the file shorter than its meta says."""
    short = 0
    with lmdb.open(str(path), map_size=1 << 30, subdir=False, max_dbs=4, sync=False) as env:
        table = env.open_db(b"table")
        keys: list[bytes] = []
        for _ in range(commits):
            with env.begin(write=True) as txn:
                for _ in range(random.choice((1, 5, 50))):
                    key = random.randbytes(6)
                    txn.put(key, random.randbytes(random.choice((10, 200, 3000, 20_000))), db=table)
                    keys.append(key)
                    if random.random() < 0.4:
                        txn.delete(keys.pop(random.choice((-1, random.randrange(len(keys))))), db=table)
            short += path.stat().st_size < (env.info()["last_pgno"] + 1) * PAGE
            assert not is_refused(path)
    return short


def test_no_commit_leaves_a_file_that_is_rejected(tmp_path: Path) -> None:
    short = sum(random_commits(tmp_path / str(seed), Random(seed), 40) for seed in range(6))
    assert short > 10, "LMDB leaves out the pages that one transaction allocates and frees"


@pytest.mark.parametrize("seed", range(4))
def test_every_truncation_that_would_crash_a_reader_is_rejected(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    whole = tmp_path / "whole"
    random_commits(whole, random, 30)
    data = whole.read_bytes()
    killed = 0
    for _ in range(6):
        cut = tmp_path / "cut"
        cut.write_bytes(data[: random.randrange(2 * PAGE, len(data))])
        reader = subprocess.run([sys.executable, "-c", _READ_ALL, cut], capture_output=True, check=False)
        if reader.returncode != 0:
            assert reader.returncode == -signal.SIGBUS or reader.returncode == 1
            killed += reader.returncode == -signal.SIGBUS
            assert is_refused(cut)
    assert killed


def test_a_truncated_backend_is_rejected_with_its_file_and_sizes(tmp_path: Path) -> None:
    backend = LmdbBackend(str(tmp_path / "db"))
    for number in range(2000):
        backend.put(Bucket.KEY, number.to_bytes(8, "big"), bytes(200))
    backend.applied(1, 1)
    backend.close()
    (path,) = (tmp_path / "db").glob("*.lmdb")
    size = path.stat().st_size
    data = path.read_bytes()
    for length in (0, 100, PAGE, size // 2, size - PAGE):
        path.write_bytes(data[:length])
        with pytest.raises(StorageFailure, match=rf"^database {path} is truncated: it has {length} bytes, (less|and {size} )"):
            LmdbBackend(str(tmp_path / "db"))


def test_a_page_that_the_disk_has_lost_is_found_before_lmdb_aborts(tmp_path: Path) -> None:
    """LMDB ends the process where a leaf has zeros or another page in its place: at each start."""
    backend = LmdbBackend(str(tmp_path / "db"))
    for number in range(4000):
        backend.put(Bucket.KEY, number.to_bytes(8, "big"), bytes(200))
    backend.put(Bucket.LEASE, b"12345678", b"lease")
    backend.applied(1, 1)
    backend.close()
    (path,) = (tmp_path / "db").glob("*.lmdb")
    data = path.read_bytes()
    numbers = [at // PAGE for at in range(2 * PAGE, len(data), PAGE) if _is_in_tree(data, at)]
    assert len(numbers) > 200
    found = 0
    for page in [*numbers[:5], *numbers[5:-5:31], *numbers[-5:]]:
        for other in (bytes(PAGE), b"\xff" * PAGE, data[3 * PAGE : 4 * PAGE] if page != 3 else bytes(PAGE)):
            path.write_bytes(data[: page * PAGE] + other + data[(page + 1) * PAGE :])
            try:
                LmdbBackend(str(tmp_path / "db")).close()  # of a page that a commit has freed
            except DamagedDatabase as damage:
                assert str(damage) == f"database {path} is damaged: page {page} is not the one that belongs there"  # noqa: PT017
                found += 1
    assert found > 30


@pytest.mark.parametrize("root", [1 << 40, 1 << 63, (1 << 64) - 2])
def test_a_tree_whose_root_is_nowhere_is_damage_too(tmp_path: Path, root: int) -> None:
    """No offset in a file is as large as that of the last two."""
    LmdbBackend(str(tmp_path / "db")).close()
    (path,) = (tmp_path / "db").glob("*.lmdb")
    with path.open("r+b") as file:
        for meta in range(2):
            file.seek(meta * PAGE + 128)  # page header, magic and address, the tree of free pages, 40 bytes of the main tree
            file.write(root.to_bytes(8, sys.byteorder))
    with pytest.raises(DamagedDatabase, match=rf"^database {path} is damaged: page {root} is not"):
        LmdbBackend(str(tmp_path / "db"))


def _is_in_tree(data: bytes, at: int) -> bool:
    """Whether a page is of a tree, or was: those that a commit has freed keep what they had."""
    return data[at + 10] & 3 != 0 and int.from_bytes(data[at : at + 8], sys.byteorder) == at // PAGE


def test_a_commit_leaves_the_file_as_long_as_its_meta_page_says(tmp_path: Path) -> None:
    """A start then need not search the trees. LMDB itself leaves out pages that one commit allocates and frees."""
    file = LmdbFile(str(tmp_path / "file.tmp"))
    file.write([(Bucket.KEY, [(b"large", bytes(20 * PAGE))], [])])
    file.write([(Bucket.KEY, [], [b"large"])])
    file.commit(1, 1)
    assert (tmp_path / "file.tmp").stat().st_size == file.sizes()[0] > 20 * PAGE
    file.close()
