"""One snapshot of this host's member: saved, restored into a scratch member, compared, encrypted, stored, and old ones removed.

    BACKUPS/kube-node1-20260102T030405Z.db          .db.age if it is encrypted
    s3://bucket/prefix/kube-node1-20260102T030405Z.db.age

A snapshot gets its name only after it has been restored into a scratch member, run by the engine of this host, whose HashKV is
that of the member; if it is encrypted, the plain file is removed then. What an aborted run has left is removed by the next one.
All files are readable by the member's user only.

The AWS_... variables come from the unit's EnvironmentFile; no program that this one starts gets them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from tercet.deploy.on_host.age_writer import encrypt
from tercet.deploy.on_host.bucket import Bucket, BucketError
from tercet.deploy.on_host.libcrypto import CryptoError, Library

_START_SECONDS = 300.0  # loading a large database
_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.2
_CLIENT_URL, _PEER_URL = "unix://client:0", "unix://peer:0"  # files of these names; etcd 3.5 wants a port
_COMPACTED = "has been compacted"


class Hash(NamedTuple):
    """HashKV, and the revision up to which the member was compacted."""

    value: int
    compacted: int


class BackupError(Exception):
    """The reason, in one line."""


class Compacted(BackupError):
    """The member does not have this revision any more."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1 with one line on stderr after a failure; snapshots are then removed no more."""
    given = parser().parse_args(arguments)
    os.umask(0o077)
    try:
        if given.check:
            check(given)
        else:
            Job(given).run()
    except (BackupError, BucketError, CryptoError, OSError, ValueError) as error:
        print(f"backup failed: {error}", file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="backup.pyz", description="Take one verified snapshot of this host's member.")
    for name, text in (
        ("name", "member whose snapshots these are"),
        ("directory", "where they are kept"),
        ("endpoint", "the member's client URL"),
        ("member", "program of the engine, for the scratch member"),
        ("tool", "its client: etcdctl or tercetctl"),
        ("offline-tool", "the program that restores: etcdutl or tercetutl"),
    ):
        found.add_argument(f"--{name}", required=True, help=text)
    for name in ("cacert", "cert", "key"):
        found.add_argument(f"--{name}", default="", help="TLS of the client")
    found.add_argument("--keep", type=int, required=True, help="number of snapshots to keep")
    found.add_argument("--turn", type=int, default=0, help="seconds to wait if a timer has started this")
    found.add_argument("--recipient", type=bytes.fromhex, default=b"", help="public key to encrypt to, in hexadecimal")
    found.add_argument("--to", default="", help="s3://BUCKET/PREFIX, to store the snapshots there as well")
    found.add_argument("--check", action="store_true", help="only check that this host can do what is asked")
    return found


def check(given: argparse.Namespace) -> None:
    """Raises CryptoError, BucketError."""
    if given.recipient:
        Library().exchange(os.urandom(32), given.recipient)
    if given.to:
        Bucket(given.to, os.environ).names()


class Job:
    def __init__(self, given: argparse.Namespace) -> None:
        self._given = given
        self._suffix = ".db.age" if given.recipient else ".db"
        self._bucket = Bucket(given.to, os.environ) if given.to else None
        self._environment = {name: text for name, text in os.environ.items() if not name.startswith(("AWS_", "ETCD"))}

    def run(self) -> None:
        """Raises BackupError, BucketError, CryptoError, OSError."""
        given = self._given
        if os.environ.get("TRIGGER_UNIT", "").endswith(".timer"):
            time.sleep(given.turn)
        self._remove_left_overs()
        file = f"{given.name}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}{self._suffix}"
        saved = os.path.join(given.directory, f"{file}.new")
        try:
            self._ctl("snapshot", "save", saved)
            self._say(self._verify(saved))
            final = os.path.join(given.directory, file)
            if given.recipient:
                encrypt(saved, f"{final}.part", given.recipient)
                os.rename(f"{final}.part", final)
            else:
                os.rename(saved, final)
            _sync_directory(given.directory)  # before older ones are removed
        finally:
            self._remove_left_overs()
        self._say(f"saved {final}")
        self._prune(os.listdir(given.directory), file, lambda name: os.remove(os.path.join(given.directory, name)))
        if self._bucket is not None:
            self._bucket.put(final, file)
            self._say(f"stored {self._bucket.url}/{file}")
            self._prune(self._bucket.names(), file, self._bucket.delete)

    def _remove_left_overs(self) -> None:
        """Of an aborted run; a plain snapshot beside its encrypted one as well."""
        for name in os.listdir(self._given.directory):
            if name.startswith(f"{self._given.name}-") and name.endswith((".new", ".part")):
                os.remove(os.path.join(self._given.directory, name))
            elif name == f".{self._given.name}.scratch":
                shutil.rmtree(os.path.join(self._given.directory, name), ignore_errors=True)

    def _prune(self, names: list[str], saved: str, remove: Any) -> None:
        """Keep the newest ones of this member, plain and encrypted ones together, and `saved` even if the clock went back."""
        stem = f"{self._given.name}-"
        others = [name for name in names if name.startswith(stem) and is_stamped(name[len(stem) :]) and name != saved]
        for name in sorted(others)[: max(0, len(others) + 1 - self._given.keep)]:
            remove(name)
            self._say(f"removed {name}")

    # Verification.

    def _verify(self, saved: str) -> str:
        """Restore the snapshot into a scratch member, and compare its hash. Raises BackupError."""
        if not os.access(self._given.offline_tool, os.X_OK):
            return f"not verified: this release has no {os.path.basename(self._given.offline_tool)}"
        status = json.loads(self._run([self._given.offline_tool, "snapshot", "status", saved, "-w", "json"]))
        newest = int(status["revision"])
        scratch = os.path.join(self._given.directory, f".{self._given.name}.scratch")
        self._run([self._given.offline_tool, "snapshot", "restore", saved, f"--data-dir={scratch}"])
        live = self._live_hash(newest)
        with tempfile.TemporaryDirectory(prefix="backup-") as sockets, self._scratch_member(scratch, sockets):
            found = self._scratch_hash(sockets, newest if live else 0)
        shutil.rmtree(scratch, ignore_errors=True)
        if live is None or live.compacted != found.compacted:
            return f"restored, hash {found.value:x}; not compared, since the member has compacted revision {newest}"
        if live.value != found.value:
            raise BackupError(
                f"the restored data differs from that of the member at revision {newest}: {live.value:x}, {found.value:x}"
            )
        return f"restored, hash {found.value:x} at revision {newest} as on the member"

    def _live_hash(self, revision: int) -> Hash | None:
        """None if the revision is compacted, before or since the snapshot."""
        try:
            return hash_in(self._ctl("endpoint", "hashkv", f"--rev={revision}", "-w", "json"))
        except Compacted:
            return None

    def _scratch_hash(self, sockets: str, revision: int) -> Hash:
        """Waits until the member answers. Raises BackupError."""
        words = [self._given.tool, f"--endpoints={_CLIENT_URL}", "endpoint", "hashkv", f"--rev={revision}", "-w", "json"]
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                return hash_in(self._run(words, directory=sockets))
            except BackupError:
                if time.monotonic() > deadline or self._scratch.poll() is not None:
                    raise
                time.sleep(_POLL_SECONDS)

    @contextlib.contextmanager
    def _scratch_member(self, data: str, sockets: str) -> Iterator[None]:
        """A member of one on Unix sockets in a directory that only this user can enter."""
        flags = {"data-dir": data, "listen-client-urls": _CLIENT_URL, "advertise-client-urls": _CLIENT_URL}
        flags.update({"listen-peer-urls": _PEER_URL, "log-level": "error"})
        words = [self._given.member, *(f"--{name}={text}" for name, text in flags.items())]
        self._scratch = subprocess.Popen(words, env=self._environment, stdin=subprocess.DEVNULL, cwd=sockets)
        try:
            yield
        finally:
            self._scratch.terminate()
            try:
                self._scratch.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._scratch.kill()
                self._scratch.wait()

    # Programs.

    def _ctl(self, *words: str) -> str:
        """The client, as the member's user with its certificate."""
        given = self._given
        tls = [f"--{name}={getattr(given, name)}" for name in ("cacert", "cert", "key") if getattr(given, name)]
        return self._run([given.tool, f"--endpoints={given.endpoint}", *tls, *words])

    def _run(self, words: list[str], *, directory: str | None = None) -> str:
        """Its output. Raises BackupError with its last line."""
        environment = {**self._environment, "ETCDCTL_API": "3"}
        done = subprocess.run(words, env=environment, cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if done.returncode:
            text = (done.stderr or done.stdout).decode(errors="replace")
            lines, program = text.strip().splitlines(), os.path.basename(words[0])
            raise (Compacted if _COMPACTED in text else BackupError)(
                f"{program}: {lines[-1] if lines else f'exit code {done.returncode}'}"
            )
        return done.stdout.decode()

    @staticmethod
    def _say(text: str) -> None:
        print(text, flush=True)


def _sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def hash_in(output: str) -> Hash:
    """Of the answer of `endpoint hashkv -w json`."""
    found = json.loads(output)[0]["HashKV"]
    return Hash(int(found["hash"]), int(found.get("compact_revision", 0)))


def is_stamped(text: str) -> bool:
    """Whether this is 20260102T030405Z.db, or .db.age."""
    stamp, _, suffix = text.partition(".")
    return suffix in ("db", "db.age") and len(stamp) == 16 and stamp[8] == "T" and stamp[-1] == "Z"
