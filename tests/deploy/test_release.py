"""Releases on a host: the real commands, run by the real sh in a directory of the test's own."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tercet.deploy.release.artifacts import Artifact
from tercet.deploy.release.cache import file_sha256
from tercet.deploy.release.release import (
    activate_command,
    install_command,
    program,
    release_directory,
    remove_command,
    rollback_command,
    tool,
)
from tercet.deploy.release.tarball import File, pack
from tests.support.waiting import scaled

SCRIPT = b'#!/bin/sh\n[ "$1" = --version ] && echo "etcd Version: %s"\nexit %d\n'


class Host:
    """A directory that stands for a host."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.install = f"{directory}/opt/it's etcd"
        self.bin = f"{directory}/usr bin"

    def artifact(self, version: str, exit_code: int = 0, more: tuple[File, ...] = ()) -> Artifact:
        files = [
            File("bin/etcd", SCRIPT % (version.encode(), exit_code), executable=True),
            File("bin/etcdctl", SCRIPT % (version.encode(), 0), executable=True),
            *more,
        ]
        path = self.directory / f"{version}.tar.gz"
        with path.open("wb") as file:
            pack(files, file)
        return describe(path, version)

    def upload(self, artifact: Artifact) -> str:
        path = self.directory / "uploaded file"
        path.write_bytes(artifact.path.read_bytes())
        return str(path)

    def sh(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=scaled(30), check=False)

    def must(self, command: str) -> None:
        done = self.sh(command)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def fails(self, command: str) -> str:
        """The last line of what it says."""
        done = self.sh(command)
        assert done.returncode == 1, done
        return done.stderr.splitlines()[-1]

    def installed(self, version: str) -> Artifact:
        artifact = self.artifact(version)
        self.must(install_command(artifact, self.install, self.upload(artifact)))
        return artifact

    def activated(self, version: str) -> Artifact:
        artifact = self.installed(version)
        self.must(activate_command(artifact, self.install, self.bin))
        return artifact

    def runs(self) -> str:
        """What `etcd` in the directory of programs is."""
        return subprocess.run([f"{self.bin}/etcd", "--version"], capture_output=True, text=True, check=True).stdout.strip()

    def releases(self) -> list[str]:
        return sorted(name.split("-")[1] for name in os.listdir(f"{self.install}/releases"))


def describe(path: Path, version: str) -> Artifact:
    digest = file_sha256(path)
    return Artifact("etcd", version, path, digest, path.stat().st_size, f"etcd-{version}-{digest[:8]}")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def snapshot(directory: Path) -> dict[str, tuple[int, str]]:
    """All that is in a directory: inodes and what links point to."""
    return {
        str(path): (path.lstat().st_ino, os.readlink(path) if path.is_symlink() else "")
        for path in sorted(directory.rglob("*"))
    }


def test_installed_is_not_yet_in_use(host: Host) -> None:
    artifact = host.installed("3.5.1")
    assert Path(release_directory(artifact, host.install), "bin", "etcd").stat().st_mode & 0o777 == 0o755
    assert not os.path.lexists(f"{host.install}/current")
    assert not (host.directory / "uploaded file").exists()


def test_activated_is_what_runs(host: Host) -> None:
    artifact = host.activated("3.5.1")
    assert host.runs() == "etcd Version: 3.5.1"
    assert Path(program(artifact, host.install)).samefile(f"{host.bin}/etcd")
    assert Path(tool(artifact, host.install)).samefile(f"{host.bin}/etcdctl")


def test_a_second_run_changes_nothing(host: Host) -> None:
    artifact = host.activated("3.5.1")
    before = snapshot(host.directory / "opt")
    host.must(install_command(artifact, host.install, str(host.directory / "uploaded file")))
    host.must(activate_command(artifact, host.install, host.bin))
    assert snapshot(host.directory / "opt") == before


def test_what_a_cut_connection_left_is_done_again(host: Host) -> None:
    artifact = host.artifact("3.5.1")
    left = Path(f"{release_directory(artifact, host.install)}.partial/bin")
    left.mkdir(parents=True)
    (left / "garbage").touch()
    host.must(install_command(artifact, host.install, host.upload(artifact)))
    assert sorted(os.listdir(f"{release_directory(artifact, host.install)}/bin")) == ["etcd", "etcdctl"]
    assert host.releases() == ["3.5.1"]


def test_without_the_file_it_says_so(host: Host) -> None:
    artifact = host.artifact("3.5.1")
    assert host.fails(install_command(artifact, host.install, "/no/such/file")) == (
        "/no/such/file is not there: it has to be copied again"
    )


def test_a_damaged_upload_is_refused(host: Host) -> None:
    artifact = host.artifact("3.5.1")
    uploaded = host.upload(artifact)
    with open(uploaded, "ab") as file:
        file.write(b"x")
    digest = hashlib.sha256(Path(uploaded).read_bytes()).hexdigest()
    said = host.fails(install_command(artifact, host.install, uploaded))
    assert said == f"{uploaded} is not what was sent (sha256 {digest}): copy it again"
    assert not os.path.exists(host.install)


@pytest.mark.parametrize("name", ["/tmp/outside", "../outside", "bin/../../outside"])
def test_paths_that_leave_the_directory_are_refused(host: Host, name: str) -> None:
    path = host.directory / "hostile.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = 1
        archive.addfile(entry, io.BytesIO(b"x"))
    artifact = describe(path, "6.6.6")
    said = host.fails(install_command(artifact, host.install, host.upload(artifact)))
    assert said.endswith("has paths that leave its directory")
    assert not os.path.exists(host.install)


def test_links_are_refused(host: Host) -> None:
    path = host.directory / "hostile.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        entry = tarfile.TarInfo("bin/etcd")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/bin/true"
        archive.addfile(entry)
    artifact = describe(path, "6.6.6")
    said = host.fails(install_command(artifact, host.install, host.upload(artifact)))
    assert said.endswith("holds more than files and directories")
    assert host.releases() == []


def test_what_does_not_run_here_is_not_installed(host: Host) -> None:
    artifact = host.artifact("3.5.1", exit_code=1)
    said = host.fails(install_command(artifact, host.install, host.upload(artifact)))
    assert said == f"{artifact.release} does not run on this host (see above)"
    assert host.releases() == []


def test_a_full_disk_leaves_nothing_behind(host: Host) -> None:
    artifact = host.artifact("3.5.1", more=(File("lib/large", os.urandom(1 << 16)),))
    uploaded = host.upload(artifact)
    said = host.fails(f"ulimit -f 16; trap '' XFSZ; {install_command(artifact, host.install, uploaded)}")
    assert "could not be unpacked" in said
    assert host.releases() == []
    host.must(install_command(artifact, host.install, uploaded))


def test_what_is_not_installed_cannot_be_activated(host: Host) -> None:
    artifact = host.artifact("3.5.1")
    assert host.fails(activate_command(artifact, host.install, host.bin)).endswith("it has to be installed first")


def test_an_upgrade_can_be_taken_back_once(host: Host) -> None:
    host.activated("3.5.1")
    newer = host.activated("3.5.2")
    assert host.runs() == "etcd Version: 3.5.2"
    host.must(rollback_command(newer, host.install))
    assert host.runs() == "etcd Version: 3.5.1"
    host.must(rollback_command(newer, host.install))  # nothing to do: it is out of use
    assert host.runs() == "etcd Version: 3.5.1"


def test_forward_again_after_a_rollback(host: Host) -> None:
    host.activated("3.5.1")
    newer = host.activated("3.5.2")
    host.must(rollback_command(newer, host.install))
    host.must(activate_command(newer, host.install, host.bin))
    assert host.runs() == "etcd Version: 3.5.2"
    host.must(rollback_command(newer, host.install))
    assert host.runs() == "etcd Version: 3.5.1"


def test_from_the_first_release_there_is_no_way_back(host: Host) -> None:
    first = host.activated("3.5.1")
    assert "no release" in host.fails(rollback_command(first, host.install))
    assert host.runs() == "etcd Version: 3.5.1"


def test_three_releases_are_kept_and_those_in_use(host: Host) -> None:
    artifacts = [host.activated(f"3.5.{number}") for number in range(1, 5)]
    assert host.releases() == ["3.5.2", "3.5.3", "3.5.4"]
    host.must(rollback_command(artifacts[3], host.install))
    assert host.runs() == "etcd Version: 3.5.3"
    # The next is newer than all, 3.5.4 was never good: what runs, and what ran before, stay.
    host.activated("3.5.5")
    assert {"3.5.3", "3.5.5"} <= set(host.releases())
    assert len(host.releases()) == 3


def test_what_was_in_use_last_is_kept_whenever_it_was_installed(host: Host) -> None:
    first, second, third = (host.installed(f"3.5.{number}") for number in range(1, 4))
    for artifact in (third, first, second):
        host.must(activate_command(artifact, host.install))
    host.activated("3.5.4")
    assert host.releases() == ["3.5.1", "3.5.2", "3.5.4"]


def test_releases_only_installed_do_not_push_out_what_is_in_use(host: Host) -> None:
    host.activated("3.5.1")
    second = host.activated("3.5.2")
    for number in range(3, 7):
        host.installed(f"3.5.{number}")
    host.must(activate_command(second, host.install, host.bin))
    assert {"3.5.1", "3.5.2"} <= set(host.releases())


def test_a_file_put_there_by_hand_is_kept(host: Host) -> None:
    by_hand = Path(host.bin, "etcd")
    by_hand.parent.mkdir()
    by_hand.write_text("by hand")
    host.activated("3.5.1")
    assert host.runs() == "etcd Version: 3.5.1"
    assert Path(host.bin, "etcd.replaced").read_text() == "by hand"


def test_a_directory_in_the_way_is_named(host: Host) -> None:
    Path(host.bin, "etcd").mkdir(parents=True)
    artifact = host.installed("3.5.1")
    said = host.fails(activate_command(artifact, host.install, host.bin))
    assert said == f"{host.bin}/etcd is a directory: a link to {host.install}/current/bin/etcd belongs there"


@pytest.mark.parametrize("with_bin", [True, False])
def test_removal_leaves_what_is_not_ours(host: Host, with_bin: bool) -> None:
    host.activated("3.5.1")
    links = host.bin if with_bin else None
    Path(host.bin, "mine").symlink_to("/bin/true")
    Path(host.install, "notes").write_text("mine")
    command = remove_command("etcd", host.install, links)
    host.must(command)
    host.must(command)
    assert os.listdir(host.install) == ["notes"]
    assert sorted(os.listdir(host.bin)) == (["mine"] if with_bin else ["etcd", "etcdctl", "mine"])


def test_at_no_moment_there_is_no_current_release(host: Host) -> None:
    older, newer = host.activated("3.5.1"), host.activated("3.5.2")
    switches = "\n".join(activate_command(artifact, host.install) for artifact in (older, newer) * 10)
    seen = watch(f"{host.install}/current", during=lambda: host.must(switches))
    assert seen == {f"releases/{older.release}", f"releases/{newer.release}"}


def watch(link: str, during: Callable[[], None]) -> set[str]:
    """What a link points to while something is done; an empty text where it is not there."""
    seen: set[str] = set()
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            try:
                seen.add(os.readlink(link))
            except FileNotFoundError:
                seen.add("")

    thread = threading.Thread(target=look)
    thread.start()
    try:
        during()
    finally:
        done.set()
        thread.join()
    return seen
