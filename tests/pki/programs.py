"""Reference programs for the tests: cfssl with cfssljson (Debian's golang-cfssl), and openssl."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import scaled

needs_cfssl = pytest.mark.skipif(
    shutil.which("cfssl") is None or shutil.which("cfssljson") is None,
    reason="cfssl is not installed (Debian: apt-get install golang-cfssl)",
)
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="the openssl command is not installed")


def cfssl(directory: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    """Run cfssl in `directory`; it may fail."""
    return subprocess.run(["cfssl", *words], cwd=directory, capture_output=True, timeout=scaled(30), check=False)


def cfssl_gencert(directory: Path, bare: str, *words: str) -> None:
    """`cfssl gencert WORDS | cfssljson -bare BARE`."""
    made = cfssl(directory, "gencert", *words)
    assert made.stdout, made.stderr.decode()
    subprocess.run(["cfssljson", "-bare", bare], cwd=directory, input=made.stdout, timeout=scaled(30), check=True)


def openssl_verify(certificate: Path, *words: str) -> bool:
    """Whether `openssl verify` accepts it."""
    line = ["openssl", "verify", *words, str(certificate)]
    return subprocess.run(line, capture_output=True, timeout=scaled(30), check=False).returncode == 0


def write_json(path: Path, content: Any) -> str:
    """Write a JSON file; returns its name for a command line in the same directory."""
    path.write_text(json.dumps(content))
    return path.name
