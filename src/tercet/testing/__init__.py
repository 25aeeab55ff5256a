"""Tests against tercet: clusters with faults, histories and their check, and a pytest plugin.

The names are imported when they are used: pytest loads the plugin, and so this module, in every project that has tercet
installed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tercet.testing.case import TercetTestCase
    from tercet.testing.cluster import Cluster
    from tercet.testing.history import History, HistoryViolation, check_linearizable
    from tercet.testing.lost_updates import LostUpdate, assert_no_lost_updates

__all__ = [
    "Cluster",
    "History",
    "HistoryViolation",
    "LostUpdate",
    "TercetTestCase",
    "assert_no_lost_updates",
    "check_linearizable",
]

_MODULES = {
    "Cluster": "tercet.testing.cluster",
    "History": "tercet.testing.history",
    "HistoryViolation": "tercet.testing.history",
    "LostUpdate": "tercet.testing.lost_updates",
    "TercetTestCase": "tercet.testing.case",
    "assert_no_lost_updates": "tercet.testing.lost_updates",
    "check_linearizable": "tercet.testing.history",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
