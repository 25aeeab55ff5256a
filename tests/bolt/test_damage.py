"""A damaged file is refused with page and fault, or the damage is harmless; there is no third outcome."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tercet.bolt import BoltFile, check, verify_digest
from tercet.bolt.format import NO_FREELIST, PAGE_SIZE, Meta, decode_meta, encode_meta_page
from tercet.errors import StorageFailure

from .images import edited, read_all, with_digest, write_image

CONTENT = {
    b"key": {b"%05d" % n: b"value %d " % n * 9 for n in range(400)},
    b"large": {b"one": b"x" * 10_000, b"two": b"y"},
    b"lease": {},
    b"meta": {b"consistent_index": bytes(8)},
}


@pytest.fixture
def intact(tmp_path: Path) -> Path:
    return write_image(tmp_path / "db", CONTENT)


def pages_of(path: Path) -> int:
    return path.stat().st_size // PAGE_SIZE


def page_slice(number: int) -> slice:
    return slice(number * PAGE_SIZE, (number + 1) * PAGE_SIZE)


def whole_page_damages(path: Path) -> list[tuple[int, str, Callable[[bytearray], None]]]:
    """Each page zeroed, filled with noise, and replaced by another page of the file."""
    count = pages_of(path)
    noise = random.Random(7)
    damages: list[tuple[int, str, Callable[[bytearray], None]]] = []
    for number in range(count):
        other = (number + 3) % count
        content = {"zeroed": bytes(PAGE_SIZE), "noise": noise.randbytes(PAGE_SIZE)}
        for name, page in content.items():
            damages.append((number, name, lambda data, number=number, page=page: data.__setitem__(page_slice(number), page)))
        damages.append(
            (number, "misplaced", lambda data, a=number, b=other: data.__setitem__(page_slice(a), bytes(data[page_slice(b)])))
        )
    return damages


def test_every_damaged_page_is_detected_or_harmless(intact: Path) -> None:
    """A reader overlooks damage only in the spare meta or inside a large value, never in keys."""
    silent: set[int] = set()
    for number, _, damage in whole_page_damages(intact):
        try:
            content = read_all(edited(intact, damage))
        except StorageFailure:
            continue
        silent.add(number)
        assert {name: list(items) for name, items in content.items()} == {
            name: list(items) for name, items in CONTENT.items()
        }, f"page {number}"
        content[b"large"][b"one"] = CONTENT[b"large"][b"one"]
        assert content == CONTENT
    overflow = {n + 1 + i for n, overflow in _overflowing(intact) for i in range(overflow)}
    assert silent == {0, 1} | overflow


def _overflowing(path: Path) -> list[tuple[int, int]]:
    found = []
    with BoltFile(path) as file:
        for bucket in file.roots():
            list(file.items_of(bucket, lambda page: found.append((page.id, page.overflow)) if page.overflow else None))
    return found


def test_the_digest_detects_every_damage(intact: Path) -> None:
    signed = intact.with_suffix(".snapshot")
    signed.write_bytes(with_digest(intact.read_bytes()))
    assert verify_digest(signed) == intact.stat().st_size
    assert read_all(signed) == CONTENT
    for _, _, damage in whole_page_damages(intact):
        with pytest.raises(StorageFailure, match="expected sha256"):
            verify_digest(edited(signed, damage))


def test_flipped_bits_raise_only_storage_failure(intact: Path) -> None:
    """2,000 single flips, half of them in headers and element tables."""
    pick = random.Random(11)
    size = intact.stat().st_size
    refused = 0
    for _ in range(2000):
        offset = pick.choice([pick.randrange(size), pick.randrange(size) // PAGE_SIZE * PAGE_SIZE + pick.randrange(600)])
        copy = edited(intact, lambda data, offset=offset: data.__setitem__(offset, data[offset] ^ 1 << pick.randrange(8)))
        try:
            content = read_all(copy)
        except StorageFailure:
            refused += 1
            assert check_is_clean(copy) is False
        else:
            changed = sum(content[name] != items for name, items in CONTENT.items() if name in content)
            assert changed <= 1
    assert refused > 200


def check_is_clean(path: Path) -> bool:
    try:
        return not check(path).faults
    except StorageFailure:
        return False


def test_every_truncation_is_detected(intact: Path) -> None:
    size = intact.stat().st_size
    for length in [0, 1, 15, 16, 79, 80, 4095, 4096, 4176, 8192, *range(PAGE_SIZE, size, PAGE_SIZE), size - 1]:
        copy = edited(intact, lambda data, length=length: data.__delitem__(slice(length, None)))
        with pytest.raises(StorageFailure, match=r"cut short|no valid meta"):
            BoltFile(copy)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(StorageFailure, match="no such file"):
        BoltFile(tmp_path / "absent")


def test_one_broken_meta_is_tolerated(intact: Path) -> None:
    for number in (0, 1):
        copy = edited(intact, lambda data, number=number: data.__setitem__(number * PAGE_SIZE + 40, 0xAA))
        assert read_all(copy) == CONTENT
        report = check(copy)
        assert report.faults == []
        assert report.remarks == [f"{copy}: page {number}: wrong checksum"]


def test_the_newer_meta_is_current(intact: Path) -> None:
    """Meta 1 is newer and has another root: an empty store."""

    def newer(data: bytearray) -> None:
        meta = current_meta(data)
        data += struct.pack("<QHHI", meta.high_water, 2, 0, 0).ljust(PAGE_SIZE, b"\0")
        newest = meta._replace(root=meta.high_water, high_water=meta.high_water + 1, txid=meta.txid + 1)
        data[page_slice(1)] = encode_meta_page(1, newest)

    assert read_all(edited(intact, newer)) == {}


def current_meta(data: bytearray) -> Meta:
    meta = decode_meta(bytes(data[16:80]))
    assert isinstance(meta, Meta)
    return meta


def with_meta(**changes: int) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        meta = current_meta(data)._replace(**changes)
        data[page_slice(0)] = encode_meta_page(0, meta)
        data[page_slice(1)] = encode_meta_page(1, meta)

    return change


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"root": 0}, "root page 0 outside of"),
        ({"root": 1 << 40}, "outside of"),
        ({"high_water": 1 << 40}, "cut short"),
        ({"page_size": 1000}, "page size 1000"),
        ({"freelist": 1 << 50}, "freelist page"),
    ],
)
def test_metas_with_wrong_fields(intact: Path, changes: dict[str, int], fault: str) -> None:
    meta = current_meta(bytearray(intact.read_bytes()))._replace(**changes)

    def write_metas(data: bytearray) -> None:
        data[page_slice(0)] = encode_meta_page(0, meta).ljust(PAGE_SIZE, b"\0")
        data[page_slice(1)] = bytes(PAGE_SIZE)

    copy = edited(intact, write_metas)
    with pytest.raises(StorageFailure, match=fault):
        BoltFile(copy)


def find_page(path: Path, flags: int) -> int:
    """The first page of a kind."""
    data = path.read_bytes()
    return next(n for n in range(2, pages_of(path)) if struct.unpack_from("<QHHI", data, n * PAGE_SIZE)[:2] == (n, flags))


def patched(offset: int, format: str, *values: int) -> Callable[[bytearray], None]:
    return lambda data: struct.pack_into(format, data, offset, *values)


def test_faults_are_named(intact: Path) -> None:
    leaf = find_page(intact, 2)
    branch = find_page(intact, 1)
    base = leaf * PAGE_SIZE
    above = branch * PAGE_SIZE
    cases: list[tuple[Callable[[bytearray], None], str]] = [
        (patched(base, "<Q", 77), f"page {leaf}: its header says page 77"),
        (patched(base + 8, "<H", 9), f"page {leaf}: flags 0x9"),
        (patched(base + 10, "<H", 60_000), f"page {leaf}: 60000 elements do not fit"),
        (patched(base + 12, "<I", 1 << 31), f"page {leaf}: overflows into page"),
        (patched(base + 16 + 4, "<I", 1 << 31), f"page {leaf}: element 0 points outside of it"),
        (patched(base + 16 + 12, "<I", 1 << 31), f"page {leaf}: element 0 points outside of it"),
        (patched(base + 16 + 4, "<I", 4), f"page {leaf}: element 0 points outside of it"),
        (patched(base + 32 + 12, "<I", 1000), f"page {leaf}: element 2 overlaps the one before"),
        (patched(base + 16 + 8, "<I", 0), f"page {leaf}: key b'' out of order"),
        (patched(base + 16, "<I", 1), "bucket b'00000' inside of bucket b'key'"),
        (patched(base + 16, "<I", 8), f"page {leaf}: element flags 0x8"),
        (patched(above + 10, "<H", 0), f"page {branch}: branch without children"),
        (patched(above + 16 + 8, "<Q", branch), f"page {branch}: occurs twice in one tree"),
        (patched(above + 32 + 8, "<Q", leaf), f"page {leaf}: occurs twice in one tree"),
        (patched(above + 16 + 8, "<Q", 1 << 60), "outside of 2.."),
        (patched(above + 16 + 8, "<Q", leaf + 1), f"page {leaf + 1}: key"),
        (patched(above + 16, "<I", 1), f"page {branch}: element 0 points outside of it"),
    ]
    for change, fault in cases:
        copy = edited(intact, change)
        with pytest.raises(StorageFailure) as failure:
            read_all(copy)
        assert fault in str(failure.value)
        assert any(fault in found for found in check(copy).faults)


def test_a_page_shared_by_two_buckets_is_a_fault(intact: Path) -> None:
    """Each bucket can be read; only the check of the whole file detects it."""
    data = intact.read_bytes()
    meta = decode_meta(data[16:80])
    assert isinstance(meta, Meta)
    root = meta.root * PAGE_SIZE
    first = root + 16 + struct.unpack_from("<I", data, root + 20)[0] + len(b"key")
    last = root + 64 + struct.unpack_from("<I", data, root + 68)[0] + len(b"meta")
    copy = edited(intact, lambda data: data.__setitem__(slice(last, last + 8), data[first : first + 8]))
    assert read_all(copy)[b"meta"] == CONTENT[b"key"]
    assert any("is used twice" in fault for fault in check(copy).faults)


def with_freelist(*free: int, count: int | None = None) -> Callable[[bytearray], None]:
    """Append a stored freelist and `len(free)` unused pages to the file."""

    def change(data: bytearray) -> None:
        meta = current_meta(data)
        ids = [meta.high_water + 1 + n for n in free]
        page = struct.pack("<QHHI", meta.high_water, 0x10, len(ids) if count is None else count, 0)
        data += (page + struct.pack(f"<{len(ids)}Q", *ids)).ljust(PAGE_SIZE, b"\0") + bytes(3 * PAGE_SIZE)
        with_meta(freelist=meta.high_water, high_water=meta.high_water + 4)(data)

    return change


def test_a_stored_freelist_must_list_every_unused_page(intact: Path) -> None:
    assert current_meta(bytearray(intact.read_bytes())).freelist == NO_FREELIST
    report = check(edited(intact, with_freelist(0, 1, 2)))
    assert (report.faults, report.pages_free) == ([], 3)
    cases = {
        "1 pages are neither used nor free": with_freelist(0, 1),
        "is free and used, or free twice": with_freelist(0, 1, 1),
        "is free, but outside of the file": with_freelist(0, 1, 99),
        "60000 free pages do not fit": with_freelist(0, 1, 2, count=60_000),
    }
    for fault, change in cases.items():
        assert any(fault in found for found in check(edited(intact, change)).faults), fault


def test_a_missing_digest_is_refused(intact: Path) -> None:
    with pytest.raises(StorageFailure, match="no SHA-256"):
        verify_digest(intact)
