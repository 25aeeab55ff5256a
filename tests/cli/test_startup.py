"""What a command imports. Start-up time is imports; they are counted here, since milliseconds depend on the machine."""

from __future__ import annotations

import subprocess
import sys

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
