"""Replacement of a pair of certificate and key by a process that is killed before each of its renames."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tercet.errors import ConfigError
from tercet.pki import init_ca
from tercet.pki.certificate import load_pair
from tercet.pki.files import CERTIFICATE_MODE, KEY_MODE, create, write_all
from tercet.pki.issue import Issued, Request


def new_pair(name: str) -> Issued:
    return init_ca(Request(name), timedelta(days=1), now=datetime.now(UTC))


Replace = Callable[[Path, Path], None]


def killed_at_rename(number: int, write: Callable[[Replace], None]) -> None:
    """Run `write` in a child process that ends before this rename, counted from 0, and cleans nothing up."""
    if child := os.fork():
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 9
        return
    done = 0

    def replace(source: Path, target: Path) -> None:
        nonlocal done
        if done == number:
            os._exit(9)
        done += 1
        source.replace(target)

    write(replace)
    os._exit(0)


@pytest.mark.parametrize("first", ["key", "certificate"])
@pytest.mark.parametrize("is_replaced", [True, False])
@pytest.mark.parametrize("renames", [0, 1])
def test_a_killed_replacement_leaves_the_old_pair_or_completes_the_new_one(
    tmp_path: Path, first: str, is_replaced: bool, renames: int
) -> None:
    certificate, key, old, new = tmp_path / "ca.pem", tmp_path / "ca-key.pem", new_pair("old"), new_pair("new")

    def write(pair: Issued, replace: Replace = os.replace) -> None:
        files = [(key, pair.key, KEY_MODE), (certificate, pair.certificate + old.certificate, CERTIFICATE_MODE)]
        write_all(files if first == "key" else files[::-1], replace=replace)

    if is_replaced:
        write(old)
    killed_at_rename(renames, lambda replace: write(new, replace))
    if renames:
        found = load_pair(certificate, key)
        assert (found.pem, key.read_bytes()) == (new.certificate, new.key)
        assert certificate.read_bytes() == new.certificate + old.certificate
        assert sorted(os.listdir(tmp_path)) == ["ca-key.pem", "ca.pem"]
        assert key.stat().st_mode & 0o777 == KEY_MODE
    elif is_replaced:
        assert load_pair(certificate, key).pem == old.certificate
    else:
        with pytest.raises(ConfigError, match=r"ca\.pem: .*No such file"):
            load_pair(certificate, key)
    write(new)
    assert sorted(os.listdir(tmp_path)) == ["ca-key.pem", "ca.pem"], "no key of a killed process stays"


def test_an_interrupt_between_the_renames_is_completed_as_well(tmp_path: Path) -> None:
    certificate, key, new = tmp_path / "ca.pem", tmp_path / "ca-key.pem", new_pair("new")

    def replace(source: Path, target: Path) -> None:
        if target == certificate:
            raise KeyboardInterrupt
        source.rename(target)

    with pytest.raises(KeyboardInterrupt):
        write_all([(key, new.key, KEY_MODE), (certificate, new.certificate, CERTIFICATE_MODE)], replace=replace)
    assert load_pair(certificate, key).pem == new.certificate


@pytest.mark.parametrize("has_links", [True, False])
def test_a_created_file_is_whole_and_replaces_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool) -> None:
    path = tmp_path / "backup.key"
    if not has_links:
        monkeypatch.setattr("os.link", lambda *_: os.stat("/dev/null/none"))
    killed_at_rename(0, lambda replace: write_all([(path, b"first", KEY_MODE)], replace=replace))
    assert not path.exists()
    create(path, b"second", mode=KEY_MODE)
    with pytest.raises(FileExistsError, match=r"backup\.key"):
        create(path, b"third", mode=KEY_MODE)
    assert (os.listdir(tmp_path), path.read_bytes(), path.stat().st_mode & 0o777) == (["backup.key"], b"second", KEY_MODE)


def test_files_of_another_pair_are_not_taken(tmp_path: Path) -> None:
    certificate, key, other = tmp_path / "ca.pem", tmp_path / "ca-key.pem", new_pair("other")
    write_all([(key, new_pair("a").key, KEY_MODE), (certificate, new_pair("b").certificate, CERTIFICATE_MODE)])
    left = tmp_path / f".ca.pem.{os.getpid()}"
    left.write_bytes(other.certificate)
    with pytest.raises(ConfigError, match="is not the key of"):
        load_pair(certificate, key)
    assert left.exists()
