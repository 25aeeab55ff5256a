"""The program `tercet`: dispatch to subcommands, and their help and errors."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import types
from collections.abc import Iterator

import pytest

from tercet import __version__
from tercet.cli import tercet
from tercet.proto import rpc_pb2
from tercet.version import ETCD_VERSION
from tests.cli.etcd_pair import run_ours
from tests.support.etcd import Etcd
from tests.support.waiting import scaled


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[str]]]:
    """The command lines that a fake server received. The program stops garbage collection, which a real server starts again."""
    lines: list[list[str]] = []

    def main(line: list[str]) -> int:
        lines.append(line)
        return 7

    module = types.ModuleType("tercet.server.main")
    module.main = main  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tercet.server.main", module)
    yield lines
    gc.enable()


@pytest.mark.parametrize("line", [[], ["--name", "up"], ["-name=up"], ["--data-dir", "bench"], ["--version"]])
def test_a_member_runs_unless_the_first_word_is_a_command(served: list[list[str]], line: list[str]) -> None:
    assert tercet.main(line) == 7
    assert served == [line]


def test_a_misspelt_command_gets_a_suggestion(served: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    assert tercet.main(["bnech", "put"]) == 7
    assert "did you mean `tercet bench`?" in capsys.readouterr().err
    assert served == [["bnech", "put"]]
    assert tercet.main(["frobnicate"]) == 7
    assert capsys.readouterr().err == "tercet: unknown command 'frobnicate'; see `tercet help`\n"
    served.clear()
    assert tercet.main(["help", "bnech"]) == 1
    assert "did you mean `tercet bench`?" in capsys.readouterr().err
    assert not served


@pytest.mark.parametrize("line", [["--help"], ["-h"], ["help"]])
def test_help_lists_commands_before_the_servers_flags(
    served: list[list[str]], capsys: pytest.CaptureFixture[str], line: list[str]
) -> None:
    tercet.main(line)
    out = capsys.readouterr().out
    for name in ("up", "bench", "sim", "version"):
        assert f"  tercet {name} " in out
    assert len(served) == 1


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert tercet.main(["version"]) == 0
    assert capsys.readouterr().out.startswith(f"tercet version: {__version__}\netcd version: {ETCD_VERSION}\ncore: ")


@pytest.mark.parametrize(("line", "text"), [(["help", "up"], "--data-dir DIR"), (["bench", "--help"], "tercet bench range")])
def test_help_of_commands(capsys: pytest.CaptureFixture[str], line: list[str], text: str) -> None:
    assert tercet.main(line) == 0
    assert text in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (["up", "--memebrs", "3"], "Did you mean '--members'?"),
        (["bench", "putt"], "unknown command 'putt'; did you mean put?"),
        (["pki", "rnew"], "unknown command 'rnew'; did you mean renew?"),
        (["metrics", "x"], "unknown command 'x'; available: dashboard, rules"),
        (["deploy", "certs", "x"], "unknown command 'x'; available: renew, rotate"),
        (["bench", "put", "--total", "1", "--duration", "1"], "--total and --duration cannot be given together"),
        (["bench", "put", "--clients", "0"], "x>=1"),
        (["up", "--program", "/nonexistent/etcd"], "cannot run /nonexistent/etcd"),
    ],
)
def test_usage_errors(capsys: pytest.CaptureFixture[str], line: list[str], text: str) -> None:
    assert tercet.main(line) == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (["put", "--endpoints", "127.0.0.1:1"], "127.0.0.1:1: connection error"),
        (["put", "--endpoints", "nowhere"], 'endpoint "nowhere" does not have the form host:port'),
        (["put", "--cert", "/nonexistent"], "KeyFile and CertFile must both be present"),
        (["put", "--key-space", "1000", "--key-size", "2"], "1000 keys do not fit into 2 bytes"),
        (["txn", "--key-space", "3", "--operations", "5"], "raise --key-space"),
    ],
)
def test_bench_with_impossible_settings_fails(capsys: pytest.CaptureFixture[str], line: list[str], text: str) -> None:
    assert tercet.main(["bench", *line]) == 1
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (["put", "--total", "300", "--clients", "8"], 100),
        (["txn", "--total", "50", "--operations", "4", "--target-leader"], 100),
        (["range", "--total", "300", "--clients", "8", "--connections", "2", "--consistency", "s"], 100),
        (["put", "--duration", "0.2", "--warmup", "0.1"], 100),
    ],
)
def test_bench(shared_etcd: Etcd, capsys: pytest.CaptureFixture[str], words: list[str], keys: int) -> None:
    run_ours(shared_etcd.endpoint, ["del", "", "--prefix"])
    line = ["bench", *words, "--endpoints", shared_etcd.endpoint, "--key-space", str(keys), "-w", "json", "--value-size=10"]
    assert tercet.main(line) == 0
    found = json.loads(capsys.readouterr().out)
    if "--total" in words:
        assert found["requests"] == int(words[words.index("--total") + 1])
    latency = found["latency_seconds"]
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["p99.9"] <= latency["max"]
    stored = rpc_pb2.RangeResponse.FromString(run_ours(shared_etcd.endpoint, ["get", "", "--prefix", "-w", "protobuf"]).out)
    assert 0 < stored.count <= keys
    assert {(len(kv.key), len(kv.value)) for kv in stored.kvs} == {(16, 10)}
    if words[0] == "range":
        assert stored.count == keys  # prefilled


@pytest.mark.parametrize("words", ["version", "--help", "help", "up --help", "sim --seed 1 --ticks 20"])
def test_output_that_cannot_be_written_is_one_line(words: str) -> None:
    line = f"{sys.executable} -m tercet {words}"
    full = subprocess.run(["bash", "-c", f"{line} >/dev/full"], capture_output=True, text=True, timeout=scaled(60), check=False)
    assert (full.returncode, full.stderr) == (1, "Error: write /dev/stdout: no space left on device\n")
    closed = subprocess.run(["bash", "-c", f"{line} >&-"], capture_output=True, text=True, timeout=scaled(60), check=False)
    assert closed.returncode == 0
    assert "Traceback" not in closed.stderr


@pytest.mark.parametrize("words", ["--help", "help up", "version"])
def test_a_reader_that_goes_away_is_no_traceback(words: str) -> None:
    line = f"{sys.executable} -m tercet {words} | true"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=scaled(60), check=False)
    assert (done.stdout, done.stderr) == ("", "")


def test_sim_does_not_print_the_logs_of_simulated_members() -> None:
    code = """
import logging
from tercet.cli import simulate

def run_seed(seed, **options):
    logging.getLogger("tercet.auth.store").warning("ignored grant role request to a user")
    return simulate.Outcome(seed)

simulate.run_seed = run_seed
simulate.command(["--seed", "1"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=scaled(60), check=False)
    assert (done.returncode, done.stderr) == (0, "")
