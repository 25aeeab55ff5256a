"""A power cut at any step of the database: commits, a defragmentation, a received snapshot, and the start after a kill."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tercet.errors import StorageFailure
from tercet.storage.interfaces import Bucket
from tercet.storage.lmdb_backend import LmdbBackend
from tests.storage.backend_victim import KEPT, key_of, value_of
from tests.storage.power_cuts import Image, PowerCuts, write_image

RECEIVED = 200


def expected(index: int) -> dict[bytes, bytes]:
    """The content after entry `index`: each entry puts a key, and deletes an older one, so that pages are used again."""
    return {key_of(one): value_of(one) for one in range(max(1, index - KEPT + 1), index + 1)}


class Victim:
    """A database, and what a power cut may leave of it: a state between the last one that was acknowledged and the newest."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cuts = PowerCuts(tmp_path / "db", self._check)
        self.images: set[int] = set()
        self.creation_steps = 0
        self._scratch = tmp_path / "cut"
        self._path = str(tmp_path / "db")
        self._durable = self._newest = 0
        self.cuts.install(monkeypatch)

    def run(self) -> None:
        """All that is done with a database."""
        backend = LmdbBackend(self._path)
        self.creation_steps = self.cuts.steps
        staged = None
        try:
            for last in (20, 70, 90):
                self._fill(backend, last)
                self._commit(backend)
            backend.defragment(lambda: None)
            self._fill(backend, 110)
            self._commit(backend)
            staged = backend.stage(self._received(), index=RECEIVED, term=1)
            self._newest = RECEIVED
            backend.install(staged)
            self._durable = RECEIVED
            self._fill(backend, RECEIVED + 20)
            self._commit(backend)
        finally:
            backend.close()
            if staged is not None:
                staged.file.close()

    def restart(self) -> None:
        """Start after a kill: what this finds it reports as durable, since the log is cut behind it."""
        self.cuts.steps_left, self.cuts.is_checking = None, True
        backend = LmdbBackend(self._path)
        self._durable = self._newest = backend.applied_index
        self.cuts.check_now()
        backend.close()

    def _fill(self, backend: LmdbBackend, last: int) -> None:
        for index in range(backend.applied_index + 1, last + 1):
            backend.put(Bucket.KEY, key_of(index), value_of(index))
            backend.delete(Bucket.KEY, key_of(index - KEPT) if index > KEPT else b"none")
            backend.applied(index, 1)
        self._newest = last

    def _commit(self, backend: LmdbBackend) -> None:
        backend.commit_now()
        self._durable = self._newest

    def _received(self) -> Iterator[tuple[Bucket, bytes, bytes]]:
        return ((Bucket.KEY, key, value) for key, value in expected(RECEIVED).items())

    def _check(self, image: Image) -> None:
        key = hash((self._durable, self._newest, *sorted(image.items())))
        if key in self.images:
            return
        self.images.add(key)
        write_image(image.items(), self._scratch)
        backend = LmdbBackend(str(self._scratch))
        try:
            assert self._durable <= backend.applied_index <= self._newest
            assert dict(backend.scan(Bucket.KEY)) == expected(backend.applied_index)
        finally:
            backend.close()
            shutil.rmtree(self._scratch)


def test_a_power_cut_at_any_step_leaves_a_state_that_is_not_older_than_the_last_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = Victim(tmp_path, monkeypatch)
    victim.run()
    assert len(victim.images) > 100


def test_what_a_start_finds_is_durable_wherever_the_process_before_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        unharmed = Victim(tmp_path, patched)
        unharmed.cuts.is_checking = False
        unharmed.run()
    for number in range(unharmed.creation_steps, unharmed.cuts.steps):
        place = tmp_path / str(number)
        place.mkdir()
        with monkeypatch.context() as patched:
            killed = Victim(place, patched)
            killed.cuts.steps_left, killed.cuts.is_checking = number, False
            with suppress(StorageFailure, OSError):
                killed.run()
            killed.restart()
