"""version: of the emulated etcdctl, and of tercet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tercet import __version__
from tercet.cli.ctl.command import Command

if TYPE_CHECKING:
    from tercet.cli.ctl.session import Session


ETCD_TOOLS_VERSION = "3.7.3"
"""The etcdctl and etcdutl that the tests compare with."""


def _version(session: Session, _: list[str]) -> None:
    """etcdctl's two lines first: scripts parse the first one."""
    api_version = ETCD_TOOLS_VERSION.rpartition(".")[0]
    session.out.write(f"etcdctl version: {ETCD_TOOLS_VERSION}\nAPI version: {api_version}\n".encode())
    if session.root.name != "etcdctl":
        session.out.write(f"tercet version: {__version__}\n".encode())


VERSION = Command("version", "Print the version", run=_version)
