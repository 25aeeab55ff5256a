"""From one cluster file to a running cluster on real hosts, over SSH, with systemd: facts, plan, apply.

Names are imported when they are first used: whoever only reads a cluster file need not wait for SSH to be loaded.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tercet.deploy.cluster import Cluster, HostSpec
    from tercet.deploy.cluster_file import load

__all__ = ["Cluster", "HostSpec", "load"]

_HOMES = {"Cluster": "tercet.deploy.cluster", "HostSpec": "tercet.deploy.cluster", "load": "tercet.deploy.cluster_file"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
