"""How many examples hypothesis tries, and whether they are the same in each run: TEST_EXAMPLES=20 tries 20 times as many.

Without TEST_EXAMPLES the examples depend only on the test's source, so that CI fails only by what a change changes. With it
(`make deep`) each run tries others; reduce what fails to a plain test, since the next ordinary run will not repeat it.
"""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, settings

_GIVEN = os.environ.get("TEST_EXAMPLES", "")
FACTOR = int(_GIVEN or "1")
_DEFAULT_EXAMPLES = 100


def load_profile() -> None:
    """Register and load the profile of all property tests; call it before the first test module is imported.

    No deadlines and no check for slow generation: both depend on how busy the machine is.
    """
    settings.register_profile(
        "tercet",
        deadline=None,
        derandomize=not _GIVEN,
        max_examples=_DEFAULT_EXAMPLES * FACTOR,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("tercet")


def examples(count: int, **more: Any) -> settings:
    """Settings of a test that needs more or fewer examples than the default 100: `count` times TEST_EXAMPLES."""
    return settings(max_examples=count * FACTOR, **more)
