"""version: of the emulated etcdutl, and of tercet."""

from __future__ import annotations

from tercet import __version__
from tercet.cli.ctl.command import Command
from tercet.cli.ctl.version import ETCD_TOOLS_VERSION
from tercet.cli.utl.context import Context


def _version(context: Context, _: list[str]) -> None:
    """etcdutl's two lines first: scripts parse the first one."""
    api_version = ETCD_TOOLS_VERSION.rpartition(".")[0]
    context.out.write(f"etcdutl version: {ETCD_TOOLS_VERSION}\nAPI version: {api_version}\n".encode())
    if context.root.name != "etcdutl":
        context.out.write(f"tercet version: {__version__}\n".encode())


VERSION = Command("version", "Print the version", run=_version)
