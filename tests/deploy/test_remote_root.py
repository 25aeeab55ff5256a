"""Commands as root on a remote host: sudo with and without a password, its refusals, and a host without Python."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tercet.deploy.ssh.connections import connect
from tercet.deploy.ssh.remote import Completed, Host, HostError
from tests.deploy.remote_calls import failure, with_host
from tests.deploy.sshd import USER, Operator, operator_of, running_sshd
from tests.support.waiting import scaled

PASSWORD = "correct horse"


# A fake sudo with the behaviour that we use; tests/hosts has the real one.
SUDO = """#!PYTHON -I
import os, pathlib, sys
state = pathlib.Path("STATE")
arguments = sys.argv[1:]
command = arguments[arguments.index("--") + 1:]
with (state / "calls").open("a") as calls:
    print(*sys.argv, file=calls)
mode = (state / "mode").read_text()
if mode == "tty":
    sys.exit("sudo: sorry, you must have a tty to run sudo")
if mode != "free":
    if "-n" in arguments:
        sys.exit("sudo: a password is required")
    for attempt in range(3):
        os.write(2, arguments[arguments.index("-p") + 1].encode())
        line = b""
        while not line.endswith(b"\\n"):
            line += os.read(0, 1) or sys.exit("sudo: no password was provided")
        if line == b"PASSWORD\\n":
            break
        os.write(2, b"Sorry, try again.\\n")
    else:
        sys.exit("sudo: 3 incorrect password attempts")
    if mode == "stranger":
        sys.exit("ops is not in the sudoers file.  This incident will be reported.")
os.environ["PATH"] = os.environ["PATH"].split(":", 1)[1]
os.execvp(command[0], command)
"""


# Root


@pytest.fixture
def sudoer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Operator, Path]]:
    """A login with a fake sudo, whose behaviour is set in the file `mode`."""
    programs, state = tmp_path / "bin", tmp_path / "state"
    programs.mkdir()
    state.mkdir()
    (state / "mode").write_text("free")
    program = SUDO.replace("PYTHON", sys.executable).replace("STATE", str(state)).replace("PASSWORD", PASSWORD)
    (programs / "sudo").write_text(program)
    (programs / "id").write_text("#!/bin/sh\necho 1000\n")
    for program in programs.iterdir():
        program.chmod(0o755)
    with (
        running_sshd(tmp_path / "sshd", environment=f"PATH={programs}:/usr/local/bin:/usr/bin:/bin") as sshd,
        operator_of(sshd, tmp_path / "home", monkeypatch) as operator,
    ):
        monkeypatch.setattr("tercet.deploy.ssh.sudo.ROOT", "somebody else")
        yield operator, state


def as_root(operator: Operator, password: str | None, asked: list[str]) -> list[Completed]:
    async def ask(prompt: str) -> str:
        asked.append(prompt)
        await asyncio.sleep(0.1)
        assert password is not None
        return password

    async def scenario() -> list[Completed]:
        host = await connect(operator.spec(), ask_password=ask if password is not None else None)
        try:
            runs = (host.run(f"cat; echo {number} >&2", stdin=b"input\n", step="try", timeout=60) for number in range(3))
            results = await asyncio.gather(*runs, return_exceptions=True)
        finally:
            await host.close()
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return [result for result in results if isinstance(result, Completed)]

    return asyncio.run(asyncio.wait_for(scenario(), scaled(20)))


THREE = [Completed(0, b"input\n", b"%d\n" % number) for number in range(3)]


def test_sudo_without_a_password(sudoer: tuple[Operator, Path]) -> None:
    asked: list[str] = []
    assert as_root(sudoer[0], PASSWORD, asked) == THREE
    assert asked == []


def test_the_sudo_password_is_sent_over_stdin(sudoer: tuple[Operator, Path]) -> None:
    operator, state = sudoer
    (state / "mode").write_text("password")
    asked: list[str] = []
    assert as_root(operator, PASSWORD, asked) == THREE
    assert asked == [f"node1: sudo password for {USER}: "], "once, whatever the number of commands"
    assert PASSWORD not in (state / "calls").read_text()


def test_sudo_requires_a_password_without_a_terminal(sudoer: tuple[Operator, Path]) -> None:
    operator, state = sudoer
    (state / "mode").write_text("password")
    with pytest.raises(
        HostError, match=f"^node1: sudo: sudo requires a password for {USER}, and there is no terminal to prompt on; "
    ):
        as_root(operator, None, [])


def test_a_wrong_password_is_tried_once(sudoer: tuple[Operator, Path]) -> None:
    operator, state = sudoer
    (state / "mode").write_text("password")
    asked: list[str] = []
    with pytest.raises(HostError, match=f"^node1: sudo: wrong sudo password for {USER}"):
        as_root(operator, "wrong", asked)
    assert len(asked) == 1
    assert (state / "calls").read_text().count(" -S ") == 1


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("stranger", "cannot become root: ops is not in the sudoers file"),
        ("tty", "sudo requires a terminal: .*; add 'Defaults"),
    ],
)
def test_sudo_refusals(sudoer: tuple[Operator, Path], mode: str, message: str) -> None:
    operator, state = sudoer
    (state / "mode").write_text(mode)
    with pytest.raises(HostError, match=f"^node1: sudo: .*{message}"):
        as_root(operator, PASSWORD, [])


def test_sudo_is_not_installed(sudoer: tuple[Operator, Path], tmp_path: Path) -> None:
    (tmp_path / "bin" / "sudo").write_text("#!/bin/sh\necho 'sh: 1: exec: sudo: not found' >&2; exit 127\n")
    with pytest.raises(
        HostError, match=f"^node1: sudo: sudo is not installed, and the login is {USER}, not root; install sudo, or set"
    ):
        as_root(sudoer[0], PASSWORD, [])


def test_sudo_disabled_in_the_cluster_file(sudoer: tuple[Operator, Path]) -> None:
    error = failure(sudoer[0], lambda host: host.run("true", step="try"), sudo=False)
    assert error.text == f"the login is {USER}, not root, and ssh.sudo is false"
    assert with_host(sudoer[0], lambda host: host.run("true", step="try", root=False), sudo=False).exit_code == 0


def test_python_is_not_installed(sudoer: tuple[Operator, Path], tmp_path: Path) -> None:
    operator, _ = sudoer

    async def act(host: Host) -> None:
        await host.run_python("", b"", python="python9", step="gather facts")

    assert failure(operator, act).text == "python9 not found on the host"


def test_python_is_too_old(sudoer: tuple[Operator, Path], tmp_path: Path) -> None:
    old = tmp_path / "bin" / "python-old"
    old.write_text("#!/bin/sh\necho 'SyntaxError: future feature annotations is not defined' >&2; exit 1\n")
    old.chmod(0o755)
    error = failure(sudoer[0], lambda host: host.run_python("", b"", python=str(old), step="gather facts"))
    assert error.text == f"{old} on the host is older than 3.7"
