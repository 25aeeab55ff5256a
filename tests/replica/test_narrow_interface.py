"""Other packages use `ReplicaStatus`, not the Raft core and the state machine inside a replica."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "tercet"
REACH_THROUGH = re.compile(r"replica\.(raft|state_machine)\.")


@pytest.mark.parametrize("package", ["services", "server", "http"])
def test_no_package_reaches_through_a_replica(package: str) -> None:
    wrong = [
        f"{path.relative_to(SOURCE)}: {line.strip()}"
        for path in sorted((SOURCE / package).rglob("*.py"))
        for line in path.read_text().splitlines()
        if REACH_THROUGH.search(line) and not line.startswith(("from ", "import "))
    ]
    assert not wrong
