"""Every example runs, and prints what its docstring says."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tercet
from tests.support.newer import needs_newer_etcd, newer_etcd
from tests.support.processes import ETCD
from tests.support.waiting import scaled

EXAMPLES = Path(__file__).parents[1] / "examples"
PLUGIN = ("-p", "no:tercet", "-p", "tercet.testing.plugin", "-p", "no:cacheprovider")  # whether or not tercet is installed
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
        timeout=scaled(110),
        check=False,
    )


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_example_prints_what_it_says(name: str) -> None:
    check_output(name)


@needs_newer_etcd
@pytest.mark.parametrize("name", SCRIPTS)
def test_an_example_prints_the_same_on_a_newer_etcd(name: str) -> None:
    with tercet.ServerProcess(program=newer_etcd()) as etcd:
        check_output(name, etcd.endpoint)


def check_output(name: str, *endpoints: str) -> None:
    text = ast.get_docstring(ast.parse((EXAMPLES / f"{name}.py").read_text()))
    assert text is not None
    _, found, printed = text.partition("Prints:\n")
    assert found
    outcome = run("-X", "dev", f"{name}.py", *endpoints)
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.splitlines() == [line.strip() for line in printed.splitlines() if line.strip()]
    assert "Traceback" not in outcome.stderr, outcome.stderr


@pytest.mark.parametrize("program", ["", ETCD[0], pytest.param(newer_etcd()[0], marks=needs_newer_etcd)])
def test_the_suite_passes(program: str) -> None:
    """Without a program on tercet, in the process of the tests."""
    where = [f"--tercet-bin={program}"] if program else []
    outcome = run("-m", "pytest", "-o", "addopts=", *PLUGIN, *where, directory=EXAMPLES / "pytest_suite")
    assert outcome.returncode == 0, outcome.stdout
    assert "2 passed" in outcome.stdout


def test_the_list_is_complete() -> None:
    listed = (EXAMPLES / "README.md").read_text()
    assert all(f"({name}.py)" in listed for name in SCRIPTS)
