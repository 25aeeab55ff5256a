"""Programs written in Go, built from their modules: independent implementations that no package carries."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

BUILD_SECONDS = 600


def go_program(module: str, version: str, command: str) -> Path:
    """The program in folder `command` of a Go module, built once and kept in the user's cache; skips if it cannot be built."""
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        pytest.skip(f"building {module} needs the go command")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tercet-tests"
    name = command.rpartition("/")[2]
    package = f"{module}/{command}"
    directory = cache / f"{name}-{version}"
    program = directory / name
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test processes may run in parallel
        if not program.exists():
            (directory / "go.mod").write_text("module tests\n")
            for words in ([go, "get", f"{module}@{version}"], [go, "get", package], [go, "build", "-o", name, package]):
                outcome = subprocess.run(
                    words, cwd=directory, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
                )
                if outcome.returncode:
                    pytest.skip(f"{' '.join(words)} failed: {outcome.stderr.strip()[-200:]}")
    return program
