"""Starts that fail, or that warn: the exit code, the last log line and the warnings are those of etcd 3.7.

Each case runs without etcd as well, against what etcd was seen to do.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.server.certificates import Authority
from tests.support.newer import needs_newer_etcd, newer_etcd
from tests.support.ports import free_ports
from tests.support.processes import TERCET, environment
from tests.support.waiting import scaled, wait_until

pytestmark = pytest.mark.server_process
READY = "ready to serve client requests"


class Start(NamedTuple):
    """code: None if the member serves clients. last: message of the last line, of a start that fails."""

    code: int | None
    last: str
    warnings: frozenset[str]


def start(program: Sequence[str], directory: Path, flags: Sequence[str], *, scheme: str, fails: bool) -> Start:
    """fails: wait for the end. etcd reads the certificates of clients after it has said that it is ready."""
    client, peer = free_ports(2)
    log = directory / f"{Path(program[0]).name}.log"
    urls = f"{scheme}://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
    own = ("--name=m", f"--listen-client-urls={urls[0]}", f"--advertise-client-urls={urls[0]}")
    own += (f"--listen-peer-urls={urls[1]}", f"--initial-advertise-peer-urls={urls[1]}", f"--initial-cluster=m={urls[1]}")
    with log.open("wb") as output:
        line = [*program, f"--data-dir={directory / 'data'}", *own, *flags]
        process = subprocess.Popen(line, stdout=output, stderr=output, env=environment({}, None))
    try:
        wait_until(lambda: process.poll() is not None or (READY in log.read_text() and not fails), "it is ready", seconds=60)
        code = process.poll()
        lines = [json.loads(text) for text in log.read_text().splitlines() if text.startswith("{")]
    finally:
        process.kill()
        process.wait(scaled(30))
    warnings = frozenset(line["msg"] for line in lines if line["level"] in ("warn", "error"))
    last = lines[-1]["msg"] if lines and code is not None else ""
    return Start(code, last, warnings)


def with_broken_key(directory: Path) -> list[str]:
    authority = Authority(directory)
    one, other = authority.sign("one", "one", "127.0.0.1"), authority.sign("other", "other", "127.0.0.1")
    return [f"--cert-file={one.cert}", f"--key-file={other.key}"]


def with_missing_crl(directory: Path) -> list[str]:
    authority = Authority(directory)
    one = authority.sign("one", "one", "127.0.0.1")
    files = [f"--cert-file={one.cert}", f"--key-file={one.key}", f"--trusted-ca-file={authority.path}"]
    return [*files, "--client-cert-auth", f"--client-crl-file={directory / 'none'}"]


def with_open_directory(directory: Path) -> list[str]:
    (directory / "data").mkdir()
    (directory / "data").chmod(0o750)
    (directory / "data" / "stray").touch()
    return []


CASES = {
    "a key of another certificate": (with_broken_key, "https", Start(1, "listener failed", frozenset())),
    "a CRL that is missing": (with_missing_crl, "https", Start(None, "", frozenset())),
    "an open data directory": (
        with_open_directory,
        "http",
        Start(None, "", frozenset({"check file permission", "found invalid file under data directory"})),
    ),
    "--auto-tls": (
        lambda _: ["--auto-tls"],
        "https",
        Start(None, "", frozenset({"automatically generate certificates"})),
    ),
    "--auto-tls beside a certificate": (
        lambda directory: ["--auto-tls", *with_missing_crl(directory)],
        "https",
        Start(None, "", frozenset({"ignoring client auto TLS since certs given"})),
    ),
    "--discovery": (lambda _: ["--discovery=http://a"], "http", Start(2, "", frozenset())),
}


@pytest.mark.parametrize("name", CASES)
def test_a_start(name: str, tmp_path: Path) -> None:
    flags, scheme, expected = CASES[name]
    found = start(TERCET, tmp_path, flags(tmp_path), scheme=scheme, fails=expected.code is not None)
    assert (found.code, found.last) == (expected.code, expected.last)
    assert expected.warnings <= found.warnings


@needs_newer_etcd
@pytest.mark.parametrize("name", CASES)
def test_a_start_of_etcd(name: str, tmp_path: Path) -> None:
    flags, scheme, expected = CASES[name]
    found = start(newer_etcd(), tmp_path, flags(tmp_path), scheme=scheme, fails=expected.code is not None)
    assert (found.code, found.last) == (expected.code, expected.last)
    assert expected.warnings <= found.warnings
