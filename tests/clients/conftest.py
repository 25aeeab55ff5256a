"""A cluster of three members with mutual TLS, a single member without, and a virtual environment for third-party clients."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tercet.pki import ensure_certificates
from tests.support.processes import Cluster, Member
from tests.support.waiting import scaled

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".venv-clients"
PACKAGES = ("etcd3==0.12.0", "aetcd==1.0.0", "grpcio>=1.70,<2", "protobuf>=6,<8")
"""Their messages have the names of ours, and they need other versions of protobuf, so they run in processes of their own."""


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """n1, n2, n3, with mutual TLS between members and for clients."""
    names = ["n1", "n2", "n3"]
    certificates = ensure_certificates(tmp_path_factory.mktemp("certificates"), names)
    made = Cluster.plan(tmp_path_factory.mktemp("secured"), names, certificates=certificates)
    try:
        yield made.start()
    finally:
        made.dispose()


@pytest.fixture(scope="package")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    """One member without TLS."""
    made = Cluster.plan(tmp_path_factory.mktemp("plain"), ["n1"])
    try:
        yield made.start().members[0]
    finally:
        made.dispose()


@pytest.fixture(scope="session")
def clients_python() -> Path:
    """The interpreter of the clients' environment, which is reused until the packages or the version of Python change."""
    ENVIRONMENT.mkdir(exist_ok=True)
    python, made_with = ENVIRONMENT / "bin" / "python", ENVIRONMENT / "packages"
    wanted = "\n".join((sys.version, *PACKAGES))
    with (ENVIRONMENT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test runs may be concurrent
        if not made_with.exists() or made_with.read_text() != wanted:
            subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True, timeout=scaled(60))
            install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES]
            done = subprocess.run(install, capture_output=True, text=True, timeout=100, check=False)
            assert done.returncode == 0, f"the clients cannot be installed:\n{done.stderr}"
            made_with.write_text(wanted)
    return python
