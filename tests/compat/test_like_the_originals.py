"""`tercet.compat.etcd3` and `tercet.compat.aetcd` beside the packages that they replace, each on a real etcd of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients.conftest import clients_python  # noqa: F401, a fixture
from tests.support.etcd import running_etcd
from tests.support.waiting import scaled

HERE = Path(__file__).parent
SOURCES = HERE.parents[1] / "src"
# etcd3's generated modules are from 2020; only the Python implementation of current protobuf loads them.
VARIABLES = {"etcd3": {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}, "aetcd": {}}


def transcript(python: str | Path, program: str, *words: object, **variables: str) -> list[str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(python), "-W", "ignore", str(HERE / program), *map(str, words)],
        capture_output=True,
        text=True,
        timeout=scaled(100),
        env={**kept, **variables},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.server_process
@pytest.mark.parametrize("package", ["etcd3", "aetcd"])
def test_every_call_has_the_original_result(package: str, tmp_path: Path, clients_python: Path) -> None:  # noqa: F811
    program = f"{package}_calls.py"
    with running_etcd(tmp_path / "theirs") as etcd:
        theirs = transcript(clients_python, program, package, etcd.client_port, **VARIABLES[package])
    with running_etcd(tmp_path / "ours") as etcd:
        ours = transcript(sys.executable, program, f"tercet.compat.{package}", etcd.client_port, PYTHONPATH=str(SOURCES))
    assert ours == theirs
    assert len(ours) > 60
