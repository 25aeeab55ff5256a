"""Parsing of command lines: flags anywhere, prefixes, suggestions, help."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tercet.cli import tercetutl
from tercet.cli.ctl.command import UnknownCommand, find
from tercet.cli.ctl.flags import FlagError, parse
from tercet.cli.ctl.session import from_any
from tercet.cli.tercetctl import ROOT
from tests.cli.etcd_pair import run_ours
from tests.support.etcd import Etcd
from tests.support.waiting import scaled


@pytest.mark.parametrize(
    ("line", "title", "arguments"),
    [
        ("get a", "tercetctl get", ["a"]),
        ("g a", "tercetctl get", ["a"]),
        ("--endpoints x get a", "tercetctl get", ["a"]),
        ("-w json get a", "tercetctl get", ["a"]),
        ("--hex get a", "tercetctl get", ["a"]),
        ("--rev 5 get a --limit 3", "tercetctl get", ["a"]),
        ("lease bogus grant", "tercetctl lease", ["bogus", "grant"]),
        ("get -- --prefix", "tercetctl get", ["--prefix"]),
        ("get - x", "tercetctl get", ["-", "x"]),
        ("endpoint --cluster health", "tercetctl endpoint health", []),
        ("en he", "tercetctl endpoint health", []),
        ("mem li extra", "tercetctl member list", ["extra"]),
    ],
)
def test_find(line: str, title: str, arguments: list[str]) -> None:
    found = find(ROOT, line.split())
    _, positional = parse(found.flags, found.arguments)
    assert (found.title, positional) == (title, arguments)


@pytest.mark.parametrize(("line", "hint"), [("gte a", "get"), ("wath", "watch"), ("m", "make-mirror"), ("d", "del")])
def test_unknown_commands_suggest(line: str, hint: str) -> None:
    with pytest.raises(UnknownCommand, match=rf"unknown command .*\n\nDid you mean this\?\n(\t.*\n)*\t{hint}\n"):
        find(ROOT, line.split())


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("get a --keysonly", "--keys-only"),
        ("get a --prefx", "--prefix"),
        ("put a b --pre", "--prev-kv"),
        ("get -limit 5", "--limit"),
    ],
)
def test_wrong_flags_suggest_the_right_one(line: str, hint: str) -> None:
    found = find(ROOT, line.split())
    with pytest.raises(FlagError, match=f"Did you mean {hint}[?]"):
        parse(found.flags, found.arguments)


LINE = "--endpoints a,b --endpoints=c --hex=0 -wjson --command-timeout 1m1.5s --hex"


def test_values() -> None:
    found = find(ROOT, [])
    values, _ = parse(found.flags, LINE.split())
    assert values.list("endpoints") == ["a", "b", "c"]
    assert values.bool("hex") is True
    assert values.string("write-out") == "json"
    assert values.int("command-timeout") == 61_500_000_000
    assert values.shown("command-timeout") == "1m1.5s"


@pytest.mark.parametrize(("line", "hint"), [("endpoint helth", "did you mean health?"), ("lease x", 'has no command "x"')])
def test_an_unknown_command_of_a_group_shows_its_page(line: str, hint: str) -> None:
    """etcdctl exits with 0 there, and says nothing."""
    outcome = run_ours(None, line.split())
    assert (outcome.code, outcome.out) == (0, run_ours(None, line.split()[:1]).out)
    assert hint in outcome.err


@pytest.mark.parametrize("line", ["", "--help", "help", "-h", "help help"])
def test_help_names_the_commands(line: str) -> None:
    outcome = run_ours(None, line.split())
    assert (outcome.code, outcome.err) == (0, "")
    for word in (b"Key-value commands\n", b"  endpoint    ", b"tercetctl options"):
        assert word in outcome.out


@pytest.mark.parametrize("line", ["endpoint", "help endpoint", "endpoint help", "endpoint --help"])
def test_help_of_a_group_names_its_commands(line: str) -> None:
    outcome = run_ours(None, line.split())
    assert (outcome.code, outcome.err) == (0, "")
    for word in (b"  health ", b"  hashkv ", b"--cluster"):
        assert word in outcome.out


def test_options_shows_the_defaults_of_the_global_flags() -> None:
    out = run_ours(None, ["options"]).out
    for line in (b"--endpoints strings ", b"(default [127.0.0.1:2379])", b"-w, --write-out string ", b'(default "simple")'):
        assert line in out


@pytest.mark.parametrize(
    "line",
    [
        ["help", "put"],
        ["put", "--help"],
        ["put", "-h"],
        ["--help", "put"],
        ["pu", "x", "-h"],
        ["--endpoints=a:1", "help", "put"],
        ["-w", "json", "help", "put"],
        ["help", "-w", "json", "put"],
    ],
)
def test_help_of_a_command_has_examples(line: list[str]) -> None:
    outcome = run_ours(None, line)
    assert outcome.code == 0
    assert b"Examples:\n  tercetctl put greeting hello\n" in outcome.out
    assert b"--prev-kv " in outcome.out


def test_help_of_tercetutl_shows_its_global_flags(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """It has no command `options`."""
    for words in (["--help"], ["snapshot", "restore", "--help"]):
        assert tercetutl.main(words) == 0
        page = capsysbinary.readouterr().out.decode()
        assert "Global Flags:\n      --timeout duration " in page
        assert "tercetutl options" not in page


def test_every_command_has_help() -> None:
    for name, command in ROOT.leaves():
        assert command.summary, name
        assert all(flag.help for flag in command.flags), name
        assert all(example.find("tercetctl ") >= 0 for example in command.examples), name


def test_the_root_and_a_commands_own_page_say_the_same() -> None:
    for command in ROOT.commands:
        assert command.loaded().name == command.name
        assert command.loaded().summary == command.summary


def test_through_a_link_named_etcdctl_it_is_etcdctl(tmp_path: Path) -> None:
    link = tmp_path / "etcdctl"
    link.symlink_to(Path(sys.executable).with_name("tercetctl"))
    done = subprocess.run([link, "bogus"], capture_output=True, text=True, timeout=scaled(30), check=False)
    assert done.stderr.startswith('Error: unknown command "bogus" for "etcdctl"\n')
    assert len(subprocess.run([link, "version"], capture_output=True, timeout=scaled(30), check=True).stdout.splitlines()) == 2


def test_invalid_endpoints() -> None:
    for endpoint, text in (("nowhere", "does not have the form host:port"), ("ftp://a:1", "scheme ftp is not supported")):
        outcome = run_ours(endpoint, ["get", "a"])
        assert text in outcome.error
        assert outcome.code == 128
    for endpoint in ("a:99999", "a:b:c", "[::1:2379"):
        outcome = run_ours(endpoint, ["get", "a"])
        assert outcome.code == 128
        assert outcome.error == f'Error: endpoint "{endpoint}" does not have the form host:port'


def test_an_endpoint_that_is_no_address_is_not_used_beside_others(shared_etcd: Etcd) -> None:
    outcome = run_ours(f"nowhere,HTTP://{shared_etcd.endpoint}", ["put", "beside", "others"])
    assert (outcome.code, outcome.out) == (0, b"OK\n")
    assert outcome.err == 'endpoint "nowhere" does not have the form host:port; it is not used\n'


def test_a_client_that_cannot_log_in_has_no_connection() -> None:
    words = ["get", "a", "--command-timeout=50ms"]
    assert run_ours("127.0.0.1:1", [*words, "--user", "a:b"]).code == 2
    assert run_ours("127.0.0.1:1", words).code == 1


def test_a_key_may_be_called_help() -> None:
    assert find(ROOT, ["get", "help"]).arguments == ["help"]
    assert not find(ROOT, ["get", "help"]).wants_help


def test_a_domain_without_records_is_named() -> None:
    outcome = run_ours("127.0.0.1:1", ["get", "a", "--discovery-srv", "nowhere.invalid"])
    assert "dns lookup errors: lookup _etcd-client-ssl._tcp.nowhere.invalid" in outcome.error
    assert outcome.code == 1


def test_requests_over_the_limit_are_not_sent() -> None:
    outcome = run_ours("127.0.0.1:1", ["put", "a", "b" * 1000, "--max-request-bytes", "100"])
    assert "trying to send message larger than max" in outcome.error
    assert outcome.code == 1


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["mem"], "member"),
        (["member", ""], "add remove update list promote"),
        (["get", "-w", ""], "fields json protobuf simple table"),
        (["--hex", "lease", "gr"], "grant"),
        (["get", "--sort"], "--sort-by"),
    ],
)
def test_bash_completes(tmp_path: Path, words: list[str], offered: str) -> None:
    script = tmp_path / "completion"
    script.write_bytes(run_ours(None, ["completion", "bash"]).out)
    quoted = " ".join(f"'{word}'" for word in ["tercetctl", *words])
    line = f"source {script}; COMP_WORDS=({quoted}); COMP_CWORD={len(words)}; _tercetctl; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=scaled(20), check=True)
    assert done.stderr == ""
    assert done.stdout.startswith(offered)


@pytest.mark.parametrize("shell", ["zsh", "fish", "powershell"])
def test_other_shells_get_every_command(shell: str) -> None:
    script = run_ours(None, ["completion", shell]).out.decode()
    for name, _ in ROOT.leaves():
        assert name.split()[-1] in script


def in_shell(program: str, lines: str) -> list[str]:
    """What a shell prints. Skips without it."""
    shell = shutil.which(program)
    if shell is None:
        pytest.skip(f"needs {program}")
    done = subprocess.run([shell], input=lines, capture_output=True, text=True, timeout=scaled(60), check=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_fish_completes_the_flags_of_groups_and_commands(tmp_path: Path) -> None:
    script = run_ours(None, ["completion", "fish"]).out.decode()
    assert "complete -c tercetctl -l cluster " in script  # of the group `endpoint`
    (tmp_path / "script").write_text(script)
    lines = [f"complete -C '{line}'" for line in ("tercetctl mem", "tercetctl endpoint health --clu", "tercetctl get --pre")]
    shown = in_shell("fish", "\n".join([f"source {tmp_path / 'script'}", *lines]))
    assert [line.split("\t")[0] for line in shown] == ["member", "--cluster", "--prefix"]


def test_zsh_completes(tmp_path: Path) -> None:
    script = run_ours(None, ["completion", "zsh"]).out.decode()
    assert ":COMP" not in script  # zsh reads a letter after a colon as a modifier
    (tmp_path / "script").write_text(script)
    call = "COMP_WORDS=(tercetctl get --order ''); COMP_CWORD=3; emulate sh -c _tercetctl; echo ${COMPREPLY[@]}"
    assert in_shell("zsh", f"autoload -U compinit && compinit -u -D\nsource {tmp_path / 'script'}\n{call}") == [
        "ASCEND DESCEND"
    ]


def test_commands_begin_with_any_of_the_endpoints() -> None:
    """As upstream's TestAuthority: of 100 commands with three endpoints, each member serves some."""
    tried = {tuple(from_any(["a", "b", "c"])) for _ in range(200)}
    assert tried == {("a", "b", "c"), ("b", "c", "a"), ("c", "a", "b")}
    assert from_any([]) == []
