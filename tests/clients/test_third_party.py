"""Third-party Python clients: what they offer."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.support.processes import Cluster, Member
from tests.support.waiting import scaled

_HERE = Path(__file__).parent


def run(python: Path, script: str, *words: object, **variables: str) -> None:
    command = [str(python), "-W", "ignore", str(_HERE / script), *map(str, words)]
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=scaled(60), env={**kept, **variables}, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("all held\n")


def test_etcd3(cluster: Cluster, clients_python: Path) -> None:
    """Its generated modules are from 2020; only the Python implementation of current protobuf loads them."""
    credentials = cluster["n2"].credentials
    assert credentials is not None
    files = (credentials.ca, credentials.certificate, credentials.key)
    port = cluster["n2"].client_port
    run(clients_python, "with_etcd3.py", port, *files, PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION="python")


def test_aetcd(plain: Member, clients_python: Path) -> None:
    run(clients_python, "with_aetcd.py", plain.client_port)
