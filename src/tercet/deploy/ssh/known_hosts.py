"""Host key verification with ssh's known_hosts files.

Unlike ssh there is no prompt: an unknown key is rejected with its fingerprint, or accepted and added with `accept_new`. A
changed key is always rejected. Names may be hashed ("|1|salt|hash"), patterns ("*.lab,!bad.lab") and carry a port
("[host]:2222"); unreadable lines are skipped, as ssh does.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncssh

SSH_PORT = 22
_AUTHORITY, _REVOKED = "@cert-authority", "@revoked"


@dataclass(frozen=True)
class Entry:
    """One line of a known_hosts file."""

    file: Path
    line: int
    marker: str
    names: str
    key: asyncssh.SSHKey

    def is_for(self, name: str) -> bool:
        """name: in lower case; [host]:port where the port is not 22."""
        if self.names.startswith("|"):
            return _is_hash_of(self.names, name)
        patterns = self.names.lower().split(",")
        return any(_matches(name, pattern) for pattern in patterns if pattern[:1] != "!") and not any(
            _matches(name, pattern[1:]) for pattern in patterns if pattern[:1] == "!"
        )


@dataclass(frozen=True)
class Known:
    """The entries of one host. without_port: entries for port 22, if another port was requested."""

    keys: tuple[Entry, ...]
    authorities: tuple[Entry, ...]
    revoked: tuple[Entry, ...]
    without_port: tuple[Entry, ...]


class KnownHosts:
    """known_hosts files; new keys are added to the first."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = tuple(files)

    def of(self, host: str, port: int) -> Known:
        """The entries of a host. Reads the files on each call, since other programs may have changed them."""
        name = _name(host, port)
        entries = [entry for file in self.files for entry in _read(file)]
        here = [entry for entry in entries if entry.is_for(name)]
        plain = [entry for entry in entries if entry.is_for(host.lower())] if port != SSH_PORT else []
        return Known(
            keys=tuple(entry for entry in here if not entry.marker),
            authorities=tuple(entry for entry in here if entry.marker == _AUTHORITY),
            revoked=tuple(entry for entry in [*here, *plain] if entry.marker == _REVOKED),
            without_port=tuple(entry for entry in plain if not entry.marker),
        )

    def add(self, host: str, port: int, key: asyncssh.SSHKey) -> Path:
        """Add a key; a new file gets mode 0600; the name is hashed if the file has hashed names. Raises OSError."""
        file = self.files[0]
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        before = file.read_bytes() if file.exists() else b""
        name = _name(host, port)
        names = _hashed(name) if b"|1|" in before else name
        line = f"{names} {key.export_public_key('openssh').decode().strip()}\n".encode()
        if before and not before.endswith(b"\n"):
            line = b"\n" + line
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line)  # a single O_APPEND write is atomic with respect to other writers
        finally:
            os.close(descriptor)
        return file


class HostKeyCheck:
    """Verifies the host key of one host. `problem` and `remedy` explain a rejection."""

    def __init__(self, known_hosts: KnownHosts, host: str, port: int, *, accept_new: bool) -> None:
        self._known_hosts = known_hosts
        self._host = host
        self._port = port
        self._accept_new = accept_new
        self.known = known_hosts.of(host, port)
        self.problem = ""
        self.remedy = ""

    def trusted(self) -> tuple[list[asyncssh.SSHKey], list[asyncssh.SSHKey], list[asyncssh.SSHKey]]:
        """Keys, certificate authorities and revoked keys, in asyncssh's form."""
        known = self.known
        return (
            [entry.key for entry in known.keys],
            [entry.key for entry in known.authorities],
            [entry.key for entry in known.revoked],
        )

    def accept(self, key: asyncssh.SSHKey) -> bool:
        """Whether to accept a key that is not in `trusted`."""
        if any(entry.key == key for entry in self.known.without_port):
            return True
        shown = f"{_kind(key)} key {key.get_fingerprint()}"
        if self.known.keys:
            self._refuse_changed(shown)
            return False
        if not self._accept_new:
            self.problem = f"unknown host key: {_name(self._host, self._port)} presents {shown}"
            self.remedy = f"verify the fingerprint, then rerun with --accept-new to add it to {self._file()}"
            return False
        try:
            self._known_hosts.add(self._host, self._port, key)
        except OSError as error:
            self.problem = f"cannot add the new host key to {self._file()}: {error.strerror}"
            return False
        return True

    def refuse_revoked(self) -> None:
        entry = self.known.revoked[0]
        self.problem = f"the host key is revoked in {entry.file} line {entry.line}"

    def _refuse_changed(self, shown: str) -> None:
        entry = self.known.keys[0]
        known = f"{_kind(entry.key)} key {entry.key.get_fingerprint()} of {_shown(entry.file)} line {entry.line}"
        self.problem = f"THE HOST KEY HAS CHANGED: {_name(self._host, self._port)} presents {shown}, expected {known}"
        self.remedy = (
            "someone may be intercepting the connection; if the host was reinstalled, remove the old key with "
            f"ssh-keygen -f {entry.file} -R '{_name(self._host, self._port)}'"
        )

    def _file(self) -> str:
        return _shown(self._known_hosts.files[0])


def _name(host: str, port: int) -> str:
    return host.lower() if port == SSH_PORT else f"[{host.lower()}]:{port}"


def _read(file: Path) -> Iterator[Entry]:
    try:
        lines = file.read_text("utf-8", "replace").splitlines()
    except OSError:
        return
    for number, text in enumerate(lines, 1):
        words = text.split(None, 3 if text.startswith("@") else 2)
        marker = words.pop(0) if text.startswith("@") else ""
        if len(words) < 2 or words[0].startswith("#") or marker not in ("", _AUTHORITY, _REVOKED):
            continue
        try:
            key = asyncssh.import_public_key(" ".join(words[1:]))
        except (asyncssh.KeyImportError, ValueError):
            continue
        yield Entry(file, number, marker, words[0], key)


def _matches(name: str, pattern: str) -> bool:
    # Brackets are part of a name here ("[host]:2222"), not a character set.
    return fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))


def _is_hash_of(names: str, name: str) -> bool:
    try:
        _, version, salt, digest = names.split("|")
        expected = base64.b64decode(digest, validate=True)
        return version == "1" and hmac.compare_digest(_hash(base64.b64decode(salt, validate=True), name), expected)
    except (ValueError, binascii.Error):
        return False


def _hash(salt: bytes, name: str) -> bytes:
    return hmac.new(salt, name.encode(), hashlib.sha1).digest()


def _hashed(name: str) -> str:
    salt = os.urandom(20)
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(_hash(salt, name)).decode()}"


def _kind(key: asyncssh.SSHKey) -> str:
    name = key.get_algorithm()
    return {"ssh-ed25519": "ED25519", "ssh-rsa": "RSA"}.get(name, "ECDSA" if name.startswith("ecdsa-") else name)


def _shown(path: Path) -> str:
    try:
        return f"~/{path.relative_to(Path.home())}"
    except ValueError:
        return str(path)
