"""The page on moving to this client names only what exists."""

from __future__ import annotations

import re
from pathlib import Path

import tercet
from tercet import AsyncClient, Client

PAGE = Path(__file__).parents[2] / "docs" / "migrating.md"


def rows() -> list[str]:
    """The code of the right columns."""
    found = [line.split(" | ", 1)[1] for line in PAGE.read_text().splitlines() if line.startswith("| ") and " | " in line]
    return [code for row in found for code in re.findall(r"`([^`]+)`", row)]


def test_every_method_of_the_client_exists_in_both_clients() -> None:
    called = {match for code in rows() for match in re.findall(r"\bclient\.(\w+)", code)}
    assert len(called) > 30
    assert [name for name in sorted(called) if not hasattr(Client, name) and name not in ("cluster", "maintenance")] == []
    assert [name for name in sorted(called) if not hasattr(AsyncClient, name) and name not in ("cluster", "maintenance")] == []


def test_every_class_exists() -> None:
    named = set(re.findall(r"\btercet\.(\w+)", PAGE.read_text())) | {
        "Unavailable",
        "Timeout",
        "Compacted",
        "Indeterminate",
        "KV",
    }
    assert [name for name in sorted(named) if not hasattr(tercet, name)] == []
