"""Simulator: whole clusters in one process, in virtual time, on faulty networks and disks.

The members run production's replica, raft, log and store; only clock, network, disk and chance are replaced. A seed determines
a run completely. `tercet sim --seeds 0-999` runs many; simulator.py lists what is checked.

`World` and `sim_test`, which run callers' code beside whole members, are those of `tercet.simulation`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["World", "sim_test"]


def __getattr__(name: str) -> Any:  # `tercet.simulation` has the types
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("tercet.simulation"), name)
