"""Programs written in Go, built from their modules: independent implementations that no package carries."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

BUILD_SECONDS = 600


def go_program(module: str, version: str, command: str) -> Path:
    """The program in folder `command` of a Go module, built once and kept in the user's cache; skips if it cannot be built."""
    name = command.rpartition("/")[2]
    package = f"{module}/{command}"
    return _built(f"{name}-{version}", (["get", f"{module}@{version}"], ["get", package], ["build", "-o", "program", package]))


def go_source(source: Path, module: str, version: str) -> Path:
    """The program of one source file, which needs `module`; built and skipped like `go_program`."""
    text = source.read_bytes()
    digest = hashlib.sha256(text).hexdigest()[:12]
    return _built(
        f"{source.stem}-{version}-{digest}",
        (["get", f"{module}@{version}"], ["build", "-o", "program", "."]),
        {"main.go": text},
    )


def _built(name: str, steps: Iterable[list[str]], files: Mapping[str, bytes] | None = None) -> Path:
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        pytest.skip(f"building {name} needs the go command")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tercet-tests"
    directory = cache / name
    program = directory / "program"
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test processes may run in parallel
        if not program.exists():
            for file, content in {"go.mod": b"module tests\n", **(files or {})}.items():
                (directory / file).write_bytes(content)
            for words in ([go, *step] for step in steps):
                outcome = subprocess.run(
                    words, cwd=directory, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
                )
                if outcome.returncode:
                    pytest.skip(f"{' '.join(words)} failed: {outcome.stderr.strip()[-200:]}")
    return program
