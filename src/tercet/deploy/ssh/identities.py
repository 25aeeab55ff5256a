"""With which keys do we knock? As with `ssh`: the named files' keys that the agent has; the agent's others; then the files.

A key file that is encrypted is used through the agent alone: passphrases are the agent's business. What was offered, and what
could not be, is kept in words for whoever is told "permission denied".
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import asyncssh

Key: TypeAlias = asyncssh.SSHKey | asyncssh.SSHKeyPair | tuple[asyncssh.SSHKey, asyncssh.SSHCertificate]
_USUAL = ("id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk", "id_dsa")


@dataclass
class Offer:
    """Keys in the order in which a host is asked to take them. words: what they are. unusable: what is not offered, and why."""

    keys: list[Key] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)
    agent: asyncssh.SSHAgentClient | None = None

    def close(self) -> None:
        """The login is done: the agent is no longer needed."""
        if self.agent is not None:
            self.agent.close()

    def refused(self) -> str:
        """For one whom nobody let in: what was tried, what was not."""
        tried = f"tried {', '.join(self.words)}" if self.words else "there was no key to try"
        return "; ".join([tried, *self.unusable])


class Identities:
    """Reads each key file once, whatever the number of hosts: checking an RSA key takes a tenth of a second."""

    def __init__(self) -> None:
        self._keys: dict[Path, asyncssh.SSHKey | str] = {}

    async def offer(self, files: Sequence[Path], agent_path: str, *, only_files: bool) -> Offer:
        """What to offer one host; `Offer.close` it after the login.

        files: those that are named; if there are none, ssh's usual ones. agent_path: its socket, or "" for none. only_files: of
        the agent's keys, only those that also stand in the files.
        """
        offer = Offer()
        usual = [path for path in _usual_files() if path.exists()]
        blobs = {path: _public_blob(path) for path in files or usual}
        offer.agent, in_agent = await _agent_keys(agent_path)
        first = [key for key in in_agent if key.public_data in blobs.values()]
        others = [] if only_files else [key for key in in_agent if key not in first]
        for key in [*first, *others]:
            offer.keys.append(key)
            offer.words.append(f"{key.get_comment() or key.get_algorithm()} from the agent")
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
        offer.words.append(str(path))

    def _private_key(self, path: Path) -> asyncssh.SSHKey | str:
        """The key in a file, or why it cannot be used."""
        if path not in self._keys:
            self._keys[path] = _read_private_key(path)
        return self._keys[path]


def _read_private_key(path: Path) -> asyncssh.SSHKey | str:
    try:
        status = path.stat()
        if status.st_mode & 0o077 and status.st_uid == os.getuid():
            return f"{path} was not tried because others can read it (chmod 600 {path})"
        return asyncssh.read_private_key(path)
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    except asyncssh.KeyImportError as error:
        if "passphrase" in str(error).lower():
            return f"{path} is encrypted and the agent does not have it (ssh-add {path})"
        return f"{path} is not a private key: {error}"


async def _agent_keys(path: str) -> tuple[asyncssh.SSHAgentClient | None, list[asyncssh.SSHKeyPair]]:
    if not path:
        return None, []
    try:
        agent = await asyncssh.connect_agent(path)
        return agent, list(await agent.get_keys())
    except (OSError, ValueError, asyncssh.Error):
        return None, []  # an agent that has gone is no agent; ssh goes on without it, too


def _usual_files() -> list[Path]:
    return [Path.home() / ".ssh" / name for name in _USUAL]


def _public_blob(path: Path) -> bytes:
    """The public half of a key file, by which the agent's keys are recognised; empty if it is not to be had."""
    public = path.with_name(path.name + ".pub")
    try:
        return asyncssh.read_public_key(public if public.exists() else path).public_data
    except (OSError, ValueError, asyncssh.KeyImportError):
        return b""
