"""Installation commands for releases, run by a real sh in a temporary directory."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
import threading
from collections.abc import Callable
from dataclasses import replace
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
    """A directory that represents a host."""

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
        """Run a command that must fail; returns the last line of stderr."""
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
        """The version that the `etcd` in paths.bin prints."""
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
    """The inode or link target of every entry in a directory."""
    return {
        str(path): (path.lstat().st_ino, os.readlink(path) if path.is_symlink() else "")
        for path in sorted(directory.rglob("*"))
    }


def test_an_installed_release_is_not_active(host: Host) -> None:
    artifact = host.installed("3.5.1")
    assert Path(release_directory(artifact, host.install), "bin", "etcd").stat().st_mode & 0o777 == 0o755
    assert not os.path.lexists(f"{host.install}/current")
    assert not (host.directory / "uploaded file").exists()


def test_an_activated_release_runs(host: Host) -> None:
    artifact = host.activated("3.5.1")
    assert host.runs() == "etcd Version: 3.5.1"
    assert Path(program(artifact, host.install)).samefile(f"{host.bin}/etcd")
    assert Path(tool(artifact, host.install)).samefile(f"{host.bin}/etcdctl")


def test_commands_are_idempotent(host: Host) -> None:
    artifact = host.activated("3.5.1")
    before = snapshot(host.directory / "opt")
    host.must(install_command(artifact, host.install, str(host.directory / "uploaded file")))
    host.must(activate_command(artifact, host.install, host.bin))
    assert snapshot(host.directory / "opt") == before


def test_an_interrupted_installation_is_completed(host: Host) -> None:
    artifact = host.artifact("3.5.1")
    left = Path(f"{release_directory(artifact, host.install)}.partial/bin")
    left.mkdir(parents=True)
    (left / "garbage").touch()
    host.must(install_command(artifact, host.install, host.upload(artifact)))
    assert sorted(os.listdir(f"{release_directory(artifact, host.install)}/bin")) == ["etcd", "etcdctl"]
    assert host.releases() == ["3.5.1"]


def test_a_command_waits_for_one_that_has_lost_its_connection(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two at once would take each other's unfinished directory for their own."""
    first, second = host.activated("3.5.1"), host.artifact("3.5.2")
    programs = host.directory / "programs"
    programs.mkdir()
    (programs / "flock").write_text("#!/bin/sh\n/usr/bin/env readlink /proc/self/fd/8 >&2\nexit 1\n")
    (programs / "flock").chmod(0o755)
    commands = [install_command(second, host.install, host.upload(second)), activate_command(first, host.install, host.bin)]
    with monkeypatch.context() as patched:
        patched.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        for command in [*commands, rollback_command(host.install)]:
            done = host.sh(command)
            assert done.returncode == 1
            assert done.stderr.splitlines()[0] == f"{host.install}/releases"
            assert "an earlier command is still working" in done.stderr
    assert host.releases() == ["3.5.1"]
    host.must(commands[0])


def test_a_missing_upload_is_an_error(host: Host) -> None:
    artifact = host.artifact("3.5.1")
    assert host.fails(install_command(artifact, host.install, "/no/such/file")) == ("/no/such/file is missing: copy it again")


def test_a_damaged_upload_is_rejected(host: Host) -> None:
    artifact = host.artifact("3.5.1")
    uploaded = host.upload(artifact)
    with open(uploaded, "ab") as file:
        file.write(b"x")
    digest = hashlib.sha256(Path(uploaded).read_bytes()).hexdigest()
    message = host.fails(install_command(artifact, host.install, uploaded))
    assert message == f"{uploaded} is damaged (SHA-256 {digest}): copy it again"
    assert not os.path.exists(host.install)


@pytest.mark.parametrize("name", ["/tmp/outside", "../outside", "bin/../../outside"])
def test_paths_outside_the_directory_are_rejected(host: Host, name: str) -> None:
    path = host.directory / "hostile.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = 1
        archive.addfile(entry, io.BytesIO(b"x"))
    artifact = describe(path, "6.6.6")
    message = host.fails(install_command(artifact, host.install, host.upload(artifact)))
    assert message.endswith("has paths outside its directory")
    assert not os.path.exists(host.install)


def test_links_are_rejected(host: Host) -> None:
    path = host.directory / "hostile.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        entry = tarfile.TarInfo("bin/etcd")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/bin/true"
        archive.addfile(entry)
    artifact = describe(path, "6.6.6")
    message = host.fails(install_command(artifact, host.install, host.upload(artifact)))
    assert message.endswith("has entries that are neither files nor directories")
    assert host.releases() == []


def test_a_release_that_does_not_run_is_not_installed(host: Host) -> None:
    artifact = host.artifact("3.5.1", exit_code=1)
    message = host.fails(install_command(artifact, host.install, host.upload(artifact)))
    assert message == f"{artifact.release} does not run on this host (see above)"
    assert host.releases() == []


def test_a_full_disk_leaves_nothing_behind(host: Host) -> None:
    artifact = host.artifact("3.5.1", more=(File("lib/large", os.urandom(1 << 16)),))
    uploaded = host.upload(artifact)
    message = host.fails(f"ulimit -f 16; trap '' XFSZ; {install_command(artifact, host.install, uploaded)}")
    assert "cannot unpack" in message
    assert host.releases() == []
    host.must(install_command(artifact, host.install, uploaded))


def test_only_installed_releases_can_be_activated(host: Host) -> None:
    artifact = host.artifact("3.5.1")
    assert host.fails(activate_command(artifact, host.install, host.bin)).endswith("is not installed")


def test_three_releases_are_kept(host: Host) -> None:
    for number in range(1, 5):
        host.activated(f"3.5.{number}")
    assert host.releases() == ["3.5.2", "3.5.3", "3.5.4"]
    assert host.runs() == "etcd Version: 3.5.4"


def test_the_most_recently_active_releases_are_kept(host: Host) -> None:
    first, second, third = (host.installed(f"3.5.{number}") for number in range(1, 4))
    for artifact in (third, first, second):
        host.must(activate_command(artifact, host.install))
    host.activated("3.5.4")
    assert host.releases() == ["3.5.1", "3.5.2", "3.5.4"]


def test_inactive_releases_do_not_displace_active_ones(host: Host) -> None:
    host.activated("3.5.1")
    second = host.activated("3.5.2")
    for number in range(3, 7):
        host.installed(f"3.5.{number}")
    host.must(activate_command(second, host.install, host.bin))
    assert {"3.5.1", "3.5.2"} <= set(host.releases())


def test_a_manually_installed_program_is_kept(host: Host) -> None:
    by_hand = Path(host.bin, "etcd")
    by_hand.parent.mkdir()
    by_hand.write_text("by hand")
    host.activated("3.5.1")
    assert host.runs() == "etcd Version: 3.5.1"
    assert Path(host.bin, "etcd.replaced").read_text() == "by hand"
    host.must(remove_command("etcd", host.install, host.bin))
    assert os.listdir(host.bin) == ["etcd"]
    assert by_hand.read_text() == "by hand"


def test_a_release_that_is_another_version_is_not_installed(host: Host) -> None:
    """The program is asked, whatever its file is called."""
    artifact = replace(host.artifact("3.4.9"), version="3.5.1")
    message = host.fails(install_command(artifact, host.install, host.upload(artifact)))
    assert message == f"{artifact.release} contains etcd 3.4.9"
    assert os.listdir(f"{host.install}/releases") == []


def test_a_directory_in_place_of_a_link_is_an_error(host: Host) -> None:
    Path(host.bin, "etcd").mkdir(parents=True)
    artifact = host.installed("3.5.1")
    message = host.fails(activate_command(artifact, host.install, host.bin))
    assert message == f"{host.bin}/etcd is a directory, cannot link it to {host.install}/current/bin/etcd"


@pytest.mark.parametrize("with_bin", [True, False])
def test_removal_keeps_other_files(host: Host, with_bin: bool) -> None:
    host.activated("3.5.1")
    links = host.bin if with_bin else None
    Path(host.bin, "mine").symlink_to("/bin/true")
    Path(host.install, "notes").write_text("mine")
    command = remove_command("etcd", host.install, links)
    host.must(command)
    host.must(command)
    assert os.listdir(host.install) == ["notes"]
    assert sorted(os.listdir(host.bin)) == (["mine"] if with_bin else ["etcd", "etcdctl", "mine"])


def test_switching_the_current_release_is_atomic(host: Host) -> None:
    older, newer = host.activated("3.5.1"), host.activated("3.5.2")
    switches = "\n".join(activate_command(artifact, host.install) for artifact in (older, newer) * 10)
    seen = watch(f"{host.install}/current", during=lambda: host.must(switches))
    assert seen == {f"releases/{older.release}", f"releases/{newer.release}"}


def watch(link: str, during: Callable[[], None]) -> set[str]:
    """Record the target of a link in a loop; an empty text if it is missing."""
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
