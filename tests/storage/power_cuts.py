"""What a power cut may leave of a database, at each step that a backend takes: to replay all of them in a test.

`PowerCuts` sits between a backend and the system: LMDB's commits and syncs, and the calls that rename, remove, resize and sync
files. Before and after each step it makes the directories that a power cut could leave at this point. As in sim/filesystem.py,
each page and each change of a name since the last sync is kept or lost independently of the others. A commit of LMDB writes
its data pages, syncs, and then writes a meta page through a descriptor that syncs each write.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import product
from pathlib import Path
from random import Random
from typing import Any, Final

import lmdb
import pytest

PAGE: Final = 4096
_META_PAGES: Final = 2
_NAMES_MAX: Final = 5  # changes of names that are combined in all ways; beyond it the oldest count as durable

Names = dict[str, int]
"""Inode numbers by name."""
Image = dict[str, bytes]
"""Contents by name: what a power cut leaves of a directory."""


class Killed(OSError):
    """The process has ended at this call."""


class PowerCuts:
    """check: called with each image, while `is_checking`; many are the same.

    steps_left: the process is killed at the step after so many; None: never. A commit has then written its meta page, which is
    in the page cache only.
    """

    def __init__(self, directory: Path, check: Callable[[Image], None]) -> None:
        self.steps_left: int | None = None
        self.steps = 0
        self.is_checking = True
        self._directory = directory
        self._links = directory.with_name("links")
        self._check = check
        self._random = Random(1)
        self._durable: dict[int, bytes] = {}
        self._durable_names: Names = {}
        self._changes: list[Callable[[Names], None]] = []  # of names, since the directory was synced
        self._names: Names = {}
        self._is_passive = self._has_ended = False

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Step between the backend and the system."""
        for name in ("rename", "unlink", "ftruncate", "fsync", "fdatasync"):
            monkeypatch.setattr(os, name, self._wrapped(getattr(os, name)))
        open_environment = lmdb.open

        def open_recorded(path: str, **options: Any) -> Any:
            if self._is_passive:
                return open_environment(path, **options | {"sync": False})
            return _Environment(open_environment(path, **options), self, is_synced=options.get("sync", True))

        monkeypatch.setattr(lmdb, "open", open_recorded)

    def step(self, call: Callable[[], Any], *, committed: int = 0) -> Any:
        """Do one step, and check what a power cut leaves before, within and after it.

        committed: the inode number of the file, if it is a commit that syncs.
        """
        if self.steps_left is not None:
            if self.steps_left == 0:
                self._end_within(call, committed)
            self.steps_left -= 1
        self.steps += 1
        self.check_now()
        result = call()
        self._see_names()
        if committed:
            self._check_commit(committed)
        return result

    def _end_within(self, call: Callable[[], Any], committed: int) -> None:
        if committed and not self._has_ended:
            call()
            self._see_names()
            before, data = self._durable.get(committed, b""), dict(self._contents()).get(committed, b"")
            self._durable[committed] = before[: _META_PAGES * PAGE] + data[_META_PAGES * PAGE :]
        self._has_ended = True
        raise Killed("killed")

    def check_now(self) -> None:
        self._see_names()
        self._check_images({number: self._kept(self._durable.get(number, b""), data) for number, data in self._contents()})

    def _wrapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        is_sync = function.__name__ in ("fsync", "fdatasync")

        def call(*arguments: Any, **options: Any) -> Any:
            if self._is_passive:
                return None if is_sync else function(*arguments, **options)
            result = self.step(lambda: function(*arguments, **options))
            if is_sync:
                self._synced(os.fstat(arguments[0]))
            return result

        return call

    def _synced(self, status: os.stat_result) -> None:
        if stat.S_ISDIR(status.st_mode):
            self._durable_names, self._changes = dict(self._names), []
        else:
            self.synced(status.st_ino)

    def synced(self, number: int) -> None:
        """The file with this inode number has been synced."""
        self._durable |= {one: data for one, data in self._contents() if one == number}

    # --- names

    def _see_names(self) -> None:
        """Note what has been created, renamed or removed since the last look."""
        seen = {path.name: path.stat().st_ino for path in self._directory.iterdir()} if self._directory.exists() else {}
        before, self._names = self._names, seen
        for name, number in seen.items():
            self._keep(name, number)
            if before.get(name) != number:
                old = next((one for one, same in before.items() if same == number and one not in seen), None)
                self._changes.append(lambda names, name=name, number=number, old=old: _renamed(names, old, name, number))
        renamed = set(seen.values())
        for name, number in before.items():
            if name not in seen and number not in renamed:
                self._changes.append(lambda names, name=name: _removed(names, name))
        while len(self._changes) > _NAMES_MAX:
            self._changes.pop(0)(self._durable_names)

    def _keep(self, name: str, number: int) -> None:
        """So that no other file gets the inode number once this one is removed."""
        self._links.mkdir(exist_ok=True)
        if not (link := self._links / str(number)).exists():
            link.hardlink_to(self._directory / name)

    def _possible_names(self) -> Iterator[Names]:
        for kept in product((False, True), repeat=len(self._changes)):
            names = dict(self._durable_names)
            for change, is_kept in zip(self._changes, kept, strict=True):
                if is_kept:
                    change(names)
            yield names

    # --- contents

    def _contents(self) -> Iterator[tuple[int, bytes]]:
        for name, number in self._names.items():
            if name.endswith((".lmdb", ".tmp", ".damaged")):
                yield number, (self._directory / name).read_bytes()

    def _kept(self, durable: bytes, data: bytes, *, first_page: int = 0) -> list[bytes]:
        """Contents with none, all, and some of the changed pages."""
        if durable == data:
            return [data]
        size = max(len(durable), len(data))
        before, after = durable.ljust(size, b"\0"), data.ljust(size, b"\0")
        pages = range(first_page * PAGE, size, PAGE)
        changed = [at for at in pages if before[at : at + PAGE] != after[at : at + PAGE]]
        halves = [set(changed[: len(changed) // 2]), set(changed[len(changed) // 2 :])]
        results = []
        for kept in (set(changed), *halves, {at for at in changed if self._random.random() < 0.5}):
            mixed = bytearray(before)
            for at in kept:
                mixed[at : at + PAGE] = after[at : at + PAGE]
            results.append(bytes(mixed))
        return [durable, *results]

    def _check_commit(self, number: int) -> None:
        """Within a commit: some data pages are written, and no meta page. Afterwards all of it is durable."""
        before = self._durable.get(number, b"")
        data = dict(self._contents()).get(number, b"")
        if len(before) > _META_PAGES * PAGE:
            self._check_images({number: self._kept(before, data, first_page=_META_PAGES)})
        self.synced(number)
        self.check_now()

    def _check_images(self, choices: dict[int, list[bytes]]) -> None:
        if not self.is_checking:
            return
        count = max(map(len, choices.values()), default=1)
        for names in self._possible_names():
            for turn in range(count):
                image = {
                    name: kept[turn % len(kept)]
                    for name, number in names.items()
                    if (kept := choices.get(number, [self._durable.get(number, b"")]))
                }
                self._is_passive = True
                try:
                    self._check(image)
                finally:
                    self._is_passive = False


def _renamed(names: Names, old: str | None, new: str, number: int) -> None:
    if old is not None and names.get(old) == number:
        del names[old]
    names[new] = number


def _removed(names: Names, name: str) -> None:
    names.pop(name, None)


class _Environment:
    """An LMDB environment whose commits and syncs are steps."""

    def __init__(self, environment: Any, cuts: PowerCuts, *, is_synced: bool) -> None:
        self._environment = environment
        self._number = os.stat(environment.path()).st_ino
        self._cuts = cuts
        self._is_synced = is_synced

    def begin(self, *arguments: Any, **options: Any) -> Any:
        txn = self._environment.begin(*arguments, **options)
        return _Transaction(txn, self._cuts, self._number if self._is_synced else 0) if options.get("write") else txn

    def sync(self, *arguments: Any) -> None:
        self._cuts.step(lambda: self._environment.sync(*arguments))
        self._cuts.synced(self._number)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._environment, name)


class _Transaction:
    def __init__(self, txn: Any, cuts: PowerCuts, number: int) -> None:
        """number: of the file's inode; 0: its commits do not sync."""
        self._txn = txn
        self._cuts = cuts
        self._number = number

    def commit(self) -> None:
        try:
            self._cuts.step(self._txn.commit, committed=self._number)
        except Killed:
            with suppress(lmdb.Error):
                self._txn.abort()  # its lock ends with the process
            raise

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None:
        self.commit()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._txn, name)


def write_image(image: Iterable[tuple[str, bytes]], directory: Path) -> None:
    """Make the directory that a power cut left."""
    directory.mkdir()
    for name, data in image:
        if not name.endswith("-lock"):  # LMDB makes it again
            (directory / name).write_bytes(data)
