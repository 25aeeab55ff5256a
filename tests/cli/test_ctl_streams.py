"""tercetctl with standard streams that are closed, full, or no terminal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.etcd_pair import clean_environment, run_theirs
from tests.support.etcd import Etcd
from tests.support.waiting import scaled

TERCETCTL = Path(sys.executable).with_name("tercetctl")
FULL = "Error: write /dev/stdout: no space left on device\n"


def shell(shared_etcd: Etcd, line: str) -> subprocess.CompletedProcess[str]:
    """Run a shell command in which CTL is tercetctl with its endpoint."""
    return subprocess.run(
        ["bash", "-c", line.replace("CTL", f"{TERCETCTL} --endpoints={shared_etcd.endpoint}")],
        capture_output=True,
        text=True,
        env=clean_environment({}),
        timeout=scaled(30),
        check=False,
    )


@pytest.mark.parametrize("line", ["CTL put a b >&-", "CTL put a b >&- 2>&- <&-", "CTL get nothing <&-", "CTL get nothing 2>&-"])
def test_closed_streams_do_not_matter_as_in_etcdctl(shared_etcd: Etcd, line: str) -> None:
    done = shell(shared_etcd, line)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_closed_stdout_does_not_lose_the_put(shared_etcd: Etcd) -> None:
    """The connection must not get file descriptor 1."""
    shell(shared_etcd, "CTL put closed 1 >&-")
    assert run_theirs(shared_etcd.endpoint, ["get", "closed", "--print-value-only"]).out == b"1\n"


def test_a_closed_stdin_has_no_value(shared_etcd: Etcd) -> None:
    done = shell(shared_etcd, "CTL put a <&-")
    assert (done.returncode, done.stdout) == (128, "")
    assert done.stderr == "Error: put command needs 1 argument and input from stdin or 2 arguments\n"


@pytest.mark.parametrize(
    "words",
    ["put a b", "get a", "get a -w json", "get a -w protobuf", "member list -w table", "version", "get --help", "help put"],
)
def test_output_that_cannot_be_written_is_an_error(shared_etcd: Etcd, words: str) -> None:
    """etcdctl exits with 0."""
    done = shell(shared_etcd, f"CTL put a b >/dev/null; CTL {words} >/dev/full")
    assert (done.returncode, done.stderr) == (1, FULL)


def test_a_full_stderr_keeps_the_exit_code(shared_etcd: Etcd) -> None:
    assert shell(shared_etcd, "CTL get 2>/dev/full").returncode == 128
    assert shell(shared_etcd, "CTL --user=root:x get a 2>/dev/full").returncode == 0


def test_a_reader_that_goes_away_is_no_traceback(shared_etcd: Etcd) -> None:
    done = shell(shared_etcd, "head -c 300000 /dev/zero | tr '\\0' x | CTL put long >/dev/null; CTL get long | head -c 1")
    assert (done.stdout, done.stderr) == ("l", "")


def test_a_password_without_a_terminal_is_read_from_stdin(shared_etcd: Etcd) -> None:
    """There is no traceback, and no warning of the interpreter; test_auth compares the rest with etcdctl."""
    for given in ("</dev/null", "<&-", "<<<secret"):
        done = shell(shared_etcd, f"CTL --user=root get nothing {given}")
        assert (done.returncode, done.stdout) == (0, "Password: \n")
        assert "Traceback" not in done.stderr
        assert "GetPassWarning" not in done.stderr
