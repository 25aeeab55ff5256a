"""docs/known-bugs.md lists every test that is named for a known bug, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_page_and_the_tests_name_the_same_bugs() -> None:
    page = (ROOT / "docs" / "known-bugs.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (D\d\d) \|.*\| (.*) \|$", page, re.MULTILINE)
    listed = {(bug, path) for bug, paths in rows for path in re.findall(r"`([\w/.]+)`", paths)}
    found = {
        (bug.upper(), str(path.relative_to(ROOT)))
        for path in (ROOT / "tests").rglob("test_*.py")
        for bug in re.findall(r"def test_(d\d\d)_", path.read_text(encoding="utf-8"))
    }
    assert len(found) > 12
    assert listed == found
