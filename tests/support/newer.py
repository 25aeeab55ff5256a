"""Real etcds after 3.5, which no Python package contains.

TEST_ETCD_NEWER is the path of an etcd >= 3.6, preferably of the current 3.7; TEST_ETCD_NEXT of one of 3.6, the minor version
after 3.5, for tests that need exactly that step.
"""

from __future__ import annotations

import os

import pytest

VARIABLE = "TEST_ETCD_NEWER"
NEXT_MINOR_VARIABLE = "TEST_ETCD_NEXT"
needs_newer_etcd = pytest.mark.skipif(not os.environ.get(VARIABLE), reason=f"{VARIABLE}: path of an etcd from 3.6 on")
needs_next_minor = pytest.mark.skipif(NEXT_MINOR_VARIABLE not in os.environ, reason=f"{NEXT_MINOR_VARIABLE}: an etcd 3.6")


def newer_etcd() -> list[str]:
    """The command line of that etcd. For tests marked with `needs_newer_etcd`."""
    return [os.environ.get(VARIABLE, "")]
