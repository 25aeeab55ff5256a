"""Certificates of an embedded cluster: an authority for clients, another for peers, in a directory that ends with the cluster.

With a single authority every client's certificate would be accepted on the peer ports.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tercet.client.tls import TLSFiles
from tercet.embed.settings import Setting
from tercet.owned_directory import OwnedDirectory
from tercet.pki import Authority
from tercet.pki.cluster import LOOPBACK_HOSTS

_AUTHORITIES: Final = ("ca", "peer-ca")
_CLIENT: Final = "client"


class Certificates:
    """Files for the members named `names`, and for clients. Each is PEM: `NAME.crt`, `NAME.key`."""

    def __init__(self, names: Sequence[str]) -> None:
        owned = OwnedDirectory("certificates")
        self.directory = owned.path
        self.close = weakref.finalize(self, _remove, owned, os.getpid())
        """Removes the files."""
        self._names = list(names)
        self._users = [_CLIENT]
        self._issue(self.directory)

    @property
    def tls(self) -> TLSFiles:
        """What a client needs; its certificate names no user of a cluster with authentication."""
        return self._of(_CLIENT)

    def for_user(self, user: str) -> TLSFiles:
        """What a client needs that is known as `user` by its certificate: its common name."""
        if user not in self._users:
            self._users.append(user)
            self._issue(self.directory)
        return self._of(user)

    def settings(self, name: str) -> dict[str, Setting]:
        """The flags of a member: TLS to clients, which must have a certificate, and among peers."""
        settings: dict[str, Setting] = {}
        for prefix, kind, authority in (("", "server", "ca"), ("peer_", "peer", "peer-ca")):
            settings |= {
                f"{prefix}cert_file": self._path(f"{name}-{kind}.crt"),
                f"{prefix}key_file": self._path(f"{name}-{kind}.key"),
                f"{prefix}trusted_ca_file": self._path(f"{authority}.crt"),
                f"{prefix}client_cert_auth": True,
            }
        return settings

    def rotate(self, *, authorities: bool = False) -> None:
        """Replace all certificates and keys by new ones. authorities: those of the authorities too, without a transition."""
        with tempfile.TemporaryDirectory(prefix="new-", dir=self.directory) as name:
            new = Path(name)
            if not authorities:
                for authority in _AUTHORITIES:
                    for suffix in (".crt", ".key"):
                        shutil.copy2(self.directory / f"{authority}{suffix}", new)
            self._issue(new)
            for file in sorted(new.iterdir()):
                os.replace(file, self.directory / file.name)

    def _issue(self, directory: Path) -> None:
        """Create what is missing."""
        clients = Authority.load_or_create(directory, "ca", "tercet embedded clients")
        peers = Authority.load_or_create(directory, "peer-ca", "tercet embedded peers")
        for user in self._users:
            clients.ensure(directory, f"client-{user}", common_name=user, client=True)
        for name in self._names:
            for authority, kind in ((clients, "server"), (peers, "peer")):
                # A member connects to its own client port (the JSON gateway) and to its peers, so both serve and ask.
                authority.ensure(directory, f"{name}-{kind}", common_name=name, hosts=LOOPBACK_HOSTS, server=True, client=True)

    def _of(self, user: str) -> TLSFiles:
        return TLSFiles(self._path("ca.crt"), self._path(f"client-{user}.crt"), self._path(f"client-{user}.key"))

    def _path(self, name: str) -> str:
        return str(self.directory / name)


def _remove(owned: OwnedDirectory, process_id: int) -> None:
    if os.getpid() == process_id:  # a child process ends with the same finalizer
        owned.close()
