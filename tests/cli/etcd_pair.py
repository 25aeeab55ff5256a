"""Two real etcd servers with the same IDs, one for etcdctl and one for tercetctl, and runners for both clients.

Member and cluster IDs are computed from the advertised URLs and the token, not from the listeners, so both servers have the
same ones. After the same commands, both give the same responses, byte for byte.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tercet.cli import tercetctl
from tests.support.etcd import binary
from tests.support.waiting import scaled

ADVERTISED = "http://127.0.0.1:1"


def clean_environment(more: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ETCD_", "ETCDCTL_"))}
    return {**kept, **more}


@dataclass(frozen=True)
class Outcome:
    """The result of a command line."""

    code: int
    out: bytes
    err: str

    @property
    def error(self) -> str:
        """The line of the error."""
        return next((line for line in self.err.splitlines() if line.startswith("Error:")), "")


def run_theirs(
    endpoint: str, words: Sequence[str | bytes], stdin: bytes = b"", *, program: str = "", **variables: str
) -> Outcome:
    done = subprocess.run(
        [program or binary("etcdctl"), *([f"--endpoints={endpoint}"] if endpoint else []), *words],
        input=stdin,
        capture_output=True,
        env=clean_environment(variables),
        timeout=scaled(30),
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr.decode("utf-8", "replace"))


def run_ours(
    endpoint: str | None,
    words: Sequence[str | bytes],
    stdin: bytes = b"",
    *,
    main: Callable[[Sequence[str]], int] = tercetctl.main,
    **variables: str,
) -> Outcome:
    """tercetctl, or another `main`, in this process, without the start-up time of Python."""
    line = [os.fsdecode(word) for word in words]
    if endpoint is not None:
        line.insert(0, f"--endpoints={endpoint}")
    streams = [io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", write_through=True) for data in (stdin, b"", b"")]
    kept_streams, kept_environment = (sys.stdin, sys.stdout, sys.stderr), dict(os.environ)
    sys.stdin, sys.stdout, sys.stderr = streams
    os.environ.clear()
    os.environ.update(clean_environment(variables))
    try:
        code = main(line)
    finally:
        sys.stdin, sys.stdout, sys.stderr = kept_streams
        os.environ.clear()
        os.environ.update(kept_environment)
    out, err = (stream.buffer.getvalue() for stream in streams[1:])  # type: ignore[attr-defined]
    return Outcome(int(code), out, err.decode("utf-8", "replace"))
