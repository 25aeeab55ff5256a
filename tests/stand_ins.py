"""Tests that put an object of their own in the place of one of ours: compiled classes accept only their own kind."""

from __future__ import annotations

import pytest

from tercet.version import is_compiled

uses_stand_ins = pytest.mark.skipif(is_compiled(), reason="compiled classes take no stand-ins: it runs on an editable install")
