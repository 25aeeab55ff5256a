"""What a command imports. Start-up time is imports; they are counted here, since milliseconds depend on the machine."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.waiting import scaled

ENDPOINT = f"--endpoints=127.0.0.1:{free_port()}"  # nothing listens there: commands fail after they have been loaded
EVENT_LOOP = {"asyncio", "ssl", "concurrent.futures"}
MESSAGES = {"google.protobuf.message", "tercet.proto.rpc_pb2", "ngh2"}
FOR_OTHERS = {"click", "rich", "yaml", "cryptography", "lmdb", "dns", "uvloop", "bcrypt", "jwt", "prometheus_client", "h11"}
SERVER = {"tercet.rpc.server", "tercet.rpc.server_connection", "tercet.rpc.handlers", "tercet.server", "tercet.services"}
SLOW_STANDARD = {"difflib", "unittest", "xml", "email", "encodings.idna", "stringprep", "concurrent.futures.thread"}
OTHER_CLIENTS = {"tercet.client.watch", "tercet.client.election", "tercet.client.async_client", "tercet.client.srv"}


def imported(module: str, *words: str) -> set[str]:
    """The modules in memory after `main` of a command line module has run a line."""
    script = f"import sys; from tercet.cli.{module} import main; main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", script, *words], capture_output=True, text=True, timeout=scaled(30), check=True
    )
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("tercetctl", ["version"]),
        ("tercetctl", ["help"]),
        ("tercetctl", ["options"]),
        ("tercetctl", ["mistyped"]),
        ("tercetctl", ["--no-such-flag", "get"]),
        ("tercetutl", ["version"]),
        ("tercetutl", ["help"]),
        ("tercet", ["version"]),
    ],
)
def test_a_line_that_waits_for_nothing_loads_no_event_loop_and_no_messages(module: str, words: list[str]) -> None:
    found = imported(module, *words)
    assert f"tercet.cli.{module}" in found
    assert not found & (EVENT_LOOP | MESSAGES | FOR_OTHERS | SERVER)


@pytest.mark.parametrize("words", [["get", "k"], ["put", "k", "v"], ["del", "k"], ["get", "k", "-w", "json"]])
def test_a_request_loads_the_client_half_alone(words: list[str]) -> None:
    found = imported("tercetctl", ENDPOINT, "--command-timeout=500ms", *words)
    assert {"tercet.rpc.channel", "tercet.cli.ctl.keys"} <= found
    assert not found & (SERVER | FOR_OTHERS | SLOW_STANDARD | OTHER_CLIENTS)
    formats = {name for name in ("fields", "json", "protobuf", "simple", "table") if f"tercet.cli.ctl.output.{name}" in found}
    assert formats == {"json" if "json" in words else "simple"}


def test_a_command_of_one_file_loads_no_client() -> None:
    found = imported("tercetutl", "snapshot", "status", "/nonexistent")
    assert "tercet.bolt" in found
    assert not found & {"tercet.rpc", "tercet.client", "tercet.server", "tercet.services"}


@pytest.mark.parametrize(
    ("program", "words", "imported_then"),
    [
        ("tercet", ["--data-dir", "never-made"], "tercet.cli.streams"),
        ("tercet", ["--data-dir", "never-made"], "tercet.server.member_server"),
        ("tercet", ["pki", "--help"], "tercet.cli.streams"),
        ("tercetctl", ["get", "k"], "tercet.cli.ctl.command"),
        ("tercetctl", ["get", "k"], "tercet.rpc.channel"),
        ("tercetutl", ["version"], "tercet.cli.ctl.command"),
    ],
)
def test_an_interrupt_while_modules_are_loaded_ends_the_program_by_the_signal(
    program: str, words: list[str], imported_then: str, tmp_path: Path
) -> None:
    script = f"""
import os, signal, sys
class Interrupter:
    def find_spec(self, name, path=None, target=None):
        if name == {imported_then!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupter())
from tercet.cli import start
sys.exit(start.{program}())
"""
    done = subprocess.run(
        [sys.executable, "-c", script, *words], cwd=tmp_path, capture_output=True, text=True, timeout=scaled(30), check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
    assert not list(tmp_path.iterdir())
