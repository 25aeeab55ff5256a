"""version: of the emulated etcdctl, and of tercet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tercet import __version__
from tercet.cli.ctl.command import Command
from tercet.version import ETCD_VERSION

if TYPE_CHECKING:
    from tercet.cli.ctl.session import Session


async def _version(session: Session, _: list[str]) -> None:
    """etcdctl's two lines first: scripts parse the first one."""
    api_version = ETCD_VERSION.rpartition(".")[0]
    session.out.write(f"etcdctl version: {ETCD_VERSION}\nAPI version: {api_version}\ntercet version: {__version__}\n".encode())


VERSION = Command("version", "Prints the version of tercetctl", run=_version)
