"""docs/compatibility.md is what the program's tables say."""

from __future__ import annotations

from pathlib import Path

from tests.compatibility_page import page

PAGE = Path(__file__).parents[1] / "docs" / "compatibility.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tests.compatibility_page > docs/compatibility.md"


def test_the_page_knows_works_from_refused() -> None:
    text = page()
    assert "| `etcdserverpb.KV` | `Range`, `RangeStream`, `Put`" in text
    assert "`/health`, `/livez`, `/readyz`" in text
    assert "**Works**: `alarm disarm`, `alarm list`" in text
