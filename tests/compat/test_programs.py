"""The programs that test third-party clients, run with our modules in the place of theirs, against tercet."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tercet.compat import replace_package
from tests.clients.conftest import cluster, plain  # noqa: F401, fixtures
from tests.support.processes import Cluster, Member
from tests.support.waiting import scaled

pytestmark = pytest.mark.server_process

PROGRAMS = Path(__file__).parents[1] / "clients"
RUN = """
import runpy, sys
from tercet.compat import replace_package
replace_package(sys.argv[1])
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(package: str, program: str, *words: object) -> None:
    command = [sys.executable, "-c", RUN, package, str(PROGRAMS / program), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=scaled(60), check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("all held\n")


def test_a_program_for_etcd3_runs_over_tls(cluster: Cluster) -> None:  # noqa: F811
    credentials = cluster["n1"].credentials
    assert credentials is not None
    run("etcd3", "with_etcd3.py", cluster["n1"].client_port, credentials.ca, credentials.certificate, credentials.key)


def test_a_program_for_aetcd_runs(plain: Member) -> None:  # noqa: F811
    run("aetcd", "with_aetcd.py", plain.client_port)


def test_a_package_that_is_imported_already_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "etcd3", ModuleType("etcd3"))
    with pytest.raises(ImportError, match="etcd3 is imported already"):
        replace_package("etcd3")
