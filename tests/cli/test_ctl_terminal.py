"""Colour and progress: at a terminal only, and no colour with NO_COLOR."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.etcd import running_etcd
from tests.support.processes import TERCET, environment
from tests.support.waiting import scaled

TERCETCTL = (sys.executable, "-c", "import sys; from tercet.cli.tercetctl import main; sys.exit(main())")
RED = b"\x1b[31m"


def at_terminal(*words: str, **variables: str) -> bytes:
    """What a command writes to a terminal that is its stderr; stdout is a pipe."""
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [*TERCETCTL, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=follower,
        env=environment({"TERM": "xterm", **variables}, None),
    ) as process:
        os.close(follower)
        written = b""
        try:
            while part := os.read(leader, 4096):
                written += part
        except OSError:  # EIO: the last writer has closed it
            pass
        process.wait(scaled(30))
    os.close(leader)
    return written


class Asked:
    """A command whose terminal is its own, waiting at a prompt."""

    def __init__(self, prompt: bytes, *words: str) -> None:
        line, variables = [*TERCETCTL, *words], environment({"TERM": "dumb"}, None)
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:  # in a process that had threads: nothing but exec
            os.execve(line[0], line, variables)
        self.said = b""
        while prompt not in self.said and self._read():
            pass
        assert prompt in self.said

    def type(self, keys: bytes) -> None:
        os.write(self._terminal, keys)

    def end(self) -> int:
        """The exit code, below 0 for a signal; `said` is all that was printed."""
        while self._read():
            pass
        os.close(self._terminal)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _read(self) -> bool:
        try:
            part = os.read(self._terminal, 4096)
        except OSError:  # EIO: the command has ended
            return False
        self.said += part
        return bool(part)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        (b"Password of u: ", ["user", "add", "u"]),
        (b"Password: ", ["get", "k", "--user", "u"]),
        (b"compares:\r\n", ["txn", "-i"]),
    ],
)
def test_ctrl_c_ends_a_command_that_waits_for_input(prompt: bytes, words: list[str]) -> None:
    asked = Asked(prompt, "--endpoints=127.0.0.1:1", *words)
    asked.type(b"\x03")
    assert asked.end() == -signal.SIGINT
    assert b"Traceback" not in asked.said


def test_the_end_of_the_input_is_an_empty_password() -> None:
    asked = Asked(b"Password of u: ", "--endpoints=127.0.0.1:1", "user", "add", "u")
    asked.type(b"\x04")
    assert asked.end() == 128
    assert asked.said.endswith(b"Error: empty password\r\n")


def test_both_lines_of_a_new_password_may_be_pasted_at_once() -> None:
    asked = Asked(b"Password of u: ", "--endpoints=127.0.0.1:1", "user", "add", "u")
    asked.type(b"one\ntwo\n")
    assert asked.end() == 128
    assert asked.said.endswith(b"Error: given passwords are different\r\n")
    assert b"one" not in asked.said  # no echo


def test_an_error_is_red_at_a_terminal() -> None:
    """All of its first line: programs that talk to a terminal look for "Error: " and what follows."""
    assert at_terminal("gte").startswith(RED + b"Error: unknown command")
    first, rest = at_terminal("get", "--gte").split(b"\r\n", 1)
    assert (first[:5], first[-4:]) == (RED, b"\x1b[0m")
    assert b"\x1b" not in rest


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_an_error_has_no_colour_where_none_is_wanted(variables: dict[str, str]) -> None:
    assert at_terminal("gte", **variables).startswith(b"Error: unknown command")


def test_a_pipe_gets_neither_colour_nor_progress() -> None:
    done = subprocess.run([*TERCETCTL, "gte"], capture_output=True, timeout=scaled(30), env=environment({}, None), check=False)
    assert done.stderr.startswith(b"Error: unknown command")


def test_a_snapshot_shows_its_progress_at_a_terminal(tmp_path: Path) -> None:
    with running_etcd(tmp_path, program=list(TERCET)) as server:
        words = (f"--endpoints={server.endpoint}", "snapshot", "save", str(tmp_path / "saved.db"))
        assert b"\rbytes received: " in at_terminal(*words)
        done = subprocess.run(
            [*TERCETCTL, *words], capture_output=True, timeout=scaled(30), env=environment({}, None), check=True
        )
        assert b"bytes received" not in done.stderr


def test_tls_towards_a_plain_port_says_so(tmp_path: Path) -> None:
    with running_etcd(tmp_path, program=list(TERCET)) as server:
        said = at_terminal(f"--endpoints=https://{server.endpoint}", "--command-timeout=5s", "get", "k")
    assert b"first record does not look like a TLS handshake (is it a plain HTTP port?)" in said
