"""`protobuf>=4.25` in pyproject.toml: the messages work, and are the same, under each major version that Python can load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.proto.program import output
from tests.support.waiting import scaled

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(300)]


OLDEST = ["4.25.0"] if sys.version_info < (3, 14) else ["5.27.0"]


@pytest.mark.parametrize("version", [*OLDEST, "5.29.5", "6.33.0", "7.*"])
def test_every_version_of_protobuf_gives_the_same(version: str, tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    install = [*pip, "--target", str(tmp_path / "protobuf"), f"protobuf=={version}"]
    done = subprocess.run(install, capture_output=True, text=True, timeout=scaled(120), check=False)
    assert done.returncode == 0, done.stderr
    given = output(tmp_path / "protobuf")
    assert given == output()
    assert "PutRequest" in given
