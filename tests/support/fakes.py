"""The marker of tests that pass fakes: compiled classes accept only instances of the annotated types."""

from __future__ import annotations

import pytest

from tercet.version import is_compiled

uses_fakes = pytest.mark.skipif(is_compiled(), reason="compiled classes accept no fakes; runs on an editable install")
