"""What `make deep` needs: each property test runs TEST_EXAMPLES times its examples, and others than in the last run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from tests.support.properties import FACTOR, examples
from tests.support.waiting import SLOWNESS, scaled

TESTS = Path(__file__).parent
PROBE = """
from hypothesis import given, strategies as st
from tests.support.properties import examples

@given(st.integers())
def test_default(number):
    print("default", number)

@examples(7)
@given(st.integers(0, 1 << 60))
def test_own_number(number):
    print("own", number)
"""


@pytest.fixture
def probe(tmp_path: Path) -> Path:
    (tmp_path / "conftest.py").write_text("from tests.support import properties\nproperties.load_profile()\n")
    (tmp_path / "test_probe.py").write_text(PROBE)
    return tmp_path


def examples_of(probe: Path, **environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-s", "-p", "no:cacheprovider", "--rootdir", probe, probe],
        env={key: value for key, value in os.environ.items() if key != "TEST_EXAMPLES"} | environment,
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        timeout=scaled(100),
    )
    assert done.returncode == 0, done.stdout
    return re.findall(r"\b(?:default|own) -?\d+", done.stdout)


def test_ordinary_runs_try_the_same_examples(probe: Path) -> None:
    first = examples_of(probe)
    assert len([line for line in first if line.startswith("own")]) == 7
    assert examples_of(probe) == first


def test_deep_runs_try_other_examples_and_more(probe: Path) -> None:
    first = examples_of(probe, TEST_EXAMPLES="3")
    assert len([line for line in first if line.startswith("own")]) == 21
    assert len([line for line in first if line.startswith("default")]) > 100
    assert examples_of(probe, TEST_EXAMPLES="3") != first


def test_no_test_sets_its_number_of_examples_past_the_factor() -> None:
    fixed = [path for path in sorted(TESTS.rglob("*.py")) if re.search(r"\bmax_examples\s*=", path.read_text())]
    assert fixed == [TESTS / "support" / "properties.py"]


@pytest.fixture
def timeout_seconds(request: pytest.FixtureRequest) -> float:
    mark = request.node.get_closest_marker("timeout")
    return float(mark.args[0] if mark else request.config.getini("timeout"))


@examples(1, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.just(0))
def test_a_property_test_has_as_much_more_time_as_examples(timeout_seconds: float, number: int) -> None:
    assert timeout_seconds == 300 * FACTOR * SLOWNESS


def test_the_timeout_grows_with_the_examples() -> None:
    """hypothesis marks its tests when they have been collected, and conftest.py has to come after it."""
    name = test_a_property_test_has_as_much_more_time_as_examples.__name__
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"{__file__}::{name}"]
    environment = {**os.environ, "TEST_EXAMPLES": "3"}
    done = subprocess.run(words, env=environment, cwd=TESTS.parent, capture_output=True, text=True, timeout=scaled(100))
    assert done.returncode == 0, done.stdout
