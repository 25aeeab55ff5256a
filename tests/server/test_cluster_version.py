"""The cluster version that a leader proposes."""

from __future__ import annotations

import pytest

from tercet.server.cluster_version import decide


@pytest.mark.parametrize(
    ("versions", "current", "target", "expected"),
    [
        (["3.7.1", "3.6.4"], None, None, "3.6.0"),
        (["3.7.1", "3.6.4"], "3.5.0", None, "3.6.0"),
        (["3.7.1", "3.6.4"], "3.6.0", None, None),
        (["3.7.1", None], "3.6.0", None, None),
        # A downgrade lowers the version by one minor, and keeps it there although all members could go higher.
        (["3.7.1", "3.7.0"], "3.7.0", "3.6.0", "3.6.0"),
        (["3.7.1", "3.6.4"], "3.7.0", "3.6.0", "3.6.0"),
        (["3.7.1", "3.7.0"], "3.6.0", "3.6.0", None),
        (["3.7.1", "3.7.0"], "3.7.0", "3.5.0", None),
        (["3.7.1", "3.7.0"], "3.6.0", None, "3.7.0"),
    ],
)
def test_the_version_follows_the_members_and_a_downgrade(
    versions: list[str | None], current: str | None, target: str | None, expected: str | None
) -> None:
    assert decide(dict(enumerate(versions)), current, target) == expected
