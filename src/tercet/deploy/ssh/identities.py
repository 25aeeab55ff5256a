"""The keys to offer at login, in ssh's order: agent keys that match the named files, other agent keys, then the files.

An encrypted key file can be used only through the agent: there is no passphrase prompt. Offered and unusable keys are described
for the "permission denied" message.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import asyncssh

Key: TypeAlias = asyncssh.SSHKey | asyncssh.SSHKeyPair | tuple[asyncssh.SSHKey, asyncssh.SSHCertificate]
_DEFAULT_FILES = ("id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk", "id_dsa")


@dataclass
class Offer:
    """Keys in the order in which they are offered. descriptions: of these keys. unusable: other keys, with the reason."""

    keys: list[Key] = field(default_factory=list)
    descriptions: list[str] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)
    agent: asyncssh.SSHAgentClient | None = None

    def close(self) -> None:
        """Disconnect from the agent after the login."""
        if self.agent is not None:
            self.agent.close()

    def summary(self) -> str:
        """Which keys were tried and which were unusable, for "permission denied"."""
        tried = f"tried {', '.join(self.descriptions)}" if self.descriptions else "no key available"
        return "; ".join([tried, *self.unusable])


class Identities:
    """Reads each key file once for all hosts: validating an RSA key takes 0.1 s."""

    def __init__(self) -> None:
        self._keys: dict[Path, asyncssh.SSHKey | str] = {}

    async def offer(self, files: Sequence[Path], agent_path: str, *, only_files: bool) -> Offer:
        """The keys to offer one host; `Offer.close` it after the login.

        files: configured key files; if empty, ssh's default files. agent_path: socket, or "" for no agent. only_files: use only
        agent keys that match the files (IdentitiesOnly).
        """
        offer = Offer()
        defaults = [path for path in _default_files() if path.exists()]
        blobs = {path: _public_blob(path) for path in files or defaults}
        offer.agent, in_agent = await _agent_keys(agent_path)
        first = [key for key in in_agent if key.public_data in blobs.values()]
        others = [] if only_files else [key for key in in_agent if key not in first]
        for key in [*first, *others]:
            offer.keys.append(key)
            offer.descriptions.append(f"{key.get_comment() or key.get_algorithm()} from the agent")
        signed = {key.public_data for key in first}
        for path, blob in blobs.items():
            if not blob or blob not in signed:
                self._offer_file(offer, path)
        return offer

    def _offer_file(self, offer: Offer, path: Path) -> None:
        key = self._private_key(path)
        if isinstance(key, str):
            offer.unusable.append(key)
            return
        certificate = path.with_name(path.name + "-cert.pub")
        if certificate.exists():
            offer.keys.append((key, asyncssh.read_certificate(certificate)))
        offer.keys.append(key)
        offer.descriptions.append(str(path))

    def _private_key(self, path: Path) -> asyncssh.SSHKey | str:
        """The key in a file, or the reason why it is unusable."""
        if path not in self._keys:
            self._keys[path] = _read_private_key(path)
        return self._keys[path]


def _read_private_key(path: Path) -> asyncssh.SSHKey | str:
    try:
        status = path.stat()
        if status.st_mode & 0o077 and status.st_uid == os.getuid():
            return f"{path} ignored: readable by others (run chmod 600 {path})"
        return asyncssh.read_private_key(path)
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    except asyncssh.KeyImportError as error:
        if "passphrase" in str(error).lower():
            return f"{path} is encrypted and not in the agent (run ssh-add {path})"
        return f"{path} is not a private key: {error}"


async def _agent_keys(path: str) -> tuple[asyncssh.SSHAgentClient | None, list[asyncssh.SSHKeyPair]]:
    if not path:
        return None, []
    try:
        agent = await asyncssh.connect_agent(path)
        return agent, list(await agent.get_keys())
    except (OSError, ValueError, asyncssh.Error):
        return None, []  # like ssh, continue without an unreachable agent


def _default_files() -> list[Path]:
    return [Path.home() / ".ssh" / name for name in _DEFAULT_FILES]


def _public_blob(path: Path) -> bytes:
    """The public key of a key file, to match keys of the agent; empty if unavailable."""
    public = path.with_name(path.name + ".pub")
    try:
        return asyncssh.read_public_key(public if public.exists() else path).public_data
    except (OSError, ValueError, asyncssh.KeyImportError):
        return b""
