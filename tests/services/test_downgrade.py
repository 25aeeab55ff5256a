from __future__ import annotations

import pytest

from tercet.errors import WRONG_DOWNGRADE_VERSION_FORMAT, StatusError
from tercet.services.downgrade import parse_target


@pytest.mark.parametrize(
    ("text", "target"),
    [("3.6", (3, 6)), ("3.6.4-rc.1+x", (3, 6)), ("003.06", (3, 6)), ("0.0.0", (0, 0)), ("0" * 5000 + "3.6", (3, 6))],
)
def test_targets(text: str, target: tuple[int, int]) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize(
    "text", ["", "3", "3.x", "3.6.4.1", "9223372036854775808.1", "3." + "1" * 5000, "0" * 20 + "1" * 5000 + ".1"]
)
def test_malformed_targets(text: str) -> None:
    """Python refuses to convert more than 4,300 digits: the last two."""
    with pytest.raises(StatusError) as refused:
        parse_target(text)
    assert refused.value is WRONG_DOWNGRADE_VERSION_FORMAT
