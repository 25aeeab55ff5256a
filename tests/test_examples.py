"""Every example runs, and prints what its docstring says."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import scaled

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(path.stem for path in EXAMPLES.glob("*.py") if path.stem != "connected")


pytestmark = pytest.mark.server_process


def run(*words: str, directory: Path = EXAMPLES) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ETCD", "PYTEST_"))}
    return subprocess.run(
        [sys.executable, *words],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=scaled(60),
        check=False,
    )


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_example_prints_what_it_says(name: str) -> None:
    text = ast.get_docstring(ast.parse((EXAMPLES / f"{name}.py").read_text()))
    assert text is not None
    _, found, printed = text.partition("Prints:\n")
    assert found
    outcome = run("-X", "dev", f"{name}.py")
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.splitlines() == [line.strip() for line in printed.splitlines() if line.strip()]
    assert "Traceback" not in outcome.stderr, outcome.stderr


def test_the_suite_passes() -> None:
    outcome = run("-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider", directory=EXAMPLES / "pytest_suite")
    assert outcome.returncode == 0, outcome.stdout
    assert "2 passed" in outcome.stdout


def test_the_list_is_complete() -> None:
    listed = (EXAMPLES / "README.md").read_text()
    assert all(f"({name}.py)" in listed for name in SCRIPTS)
