"""Every script still has its recorded transcript (python -m tests.raft.script --record rewrites them)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.raft.script import SCRIPTS, replay


@pytest.mark.parametrize("path", sorted(SCRIPTS.iterdir()), ids=lambda path: path.name)
def test_the_transcript_is_as_recorded(path: Path) -> None:
    text = path.read_text()
    assert replay(text) == text
