"""A real etcd >= 3.6, which no Python package contains: TEST_ETCD_NEWER is its path, preferably that of the current 3.7."""

from __future__ import annotations

import os

import pytest

VARIABLE = "TEST_ETCD_NEWER"
needs_newer_etcd = pytest.mark.skipif(not os.environ.get(VARIABLE), reason=f"{VARIABLE}: path of an etcd from 3.6 on")


def newer_etcd() -> list[str]:
    """The command line of that etcd. For tests marked with `needs_newer_etcd`."""
    return [os.environ.get(VARIABLE, "")]
