"""tercetctl and tercetutl beside etcdctl and etcdutl 3.7: every command with each of its flags, good values and bad.

The commands and flags are read from the help of the real tools. A command without an entry in the tables below fails
`test_every_command_has_a_line`; a new flag is compared without being named here.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

from tercet.cli import tercetutl
from tests.cli.etcd_pair import Outcome, clean_environment, run_ours
from tests.cli.newer_pair import NewerPair, running_pair, tool
from tests.cli.test_ctl_like_newer import commands_of, flags_of
from tests.support.etcd import running_etcd
from tests.support.newer import needs_newer_etcd, newer_etcd
from tests.support.waiting import scaled

pytestmark = needs_newer_etcd

# A line for each command, to which the flags are added. Commands that run until they are stopped lack an argument here, and
# fail once the flags are read; test_ctl_like_newer.py and test_ctl_streams.py run them in full.
LINES = """compaction 1|del k|get k|lease grant 100|lease keep-alive 5|lease list|lease revoke 5|lease timetolive 5|put k v|txn
watch|alarm disarm|alarm list|defrag|downgrade cancel|downgrade enable x|downgrade validate 3.6|endpoint hashkv|endpoint health
endpoint status|member add m|member list|member promote 5|member remove 5|member update 5|move-leader 5|snapshot save FILE|elect
lock l true|auth disable|auth enable|auth status|role add r|role delete x|role get r|role grant-permission r read k
role list|role revoke-permission r k|user add u:p|user delete x|user get u|user grant-role u r|user list|user passwd u
user revoke-role u x|check datascale --load=x|check perf --load=x|completion bash|make-mirror|options|version"""
UTL_LINES = "completion bash|defrag|hashkv FILE|migrate|snapshot restore FILE|snapshot status FILE|version"
OWN_WORDS = ("completion", "options", "version")  # only the exit code is compared, and the error
VALUES = {
    "": ["", "=false", "=x", "="],
    "int": ["=5", "=-1", "=x", "=", "=0x1", "=99999999999999999999"],
    "uint": ["=5", "=-1", "=x", "=", "=99999999999999999999"],
    "duration": ["=9s", "=9", "=x", "="],
    "string": ["=x", "="],
    "strings": ["=127.0.0.1:1 --command-timeout=100ms --dial-timeout=100ms"],
}
NAMED_VALUES = {
    "consistency": ["=s", "=l"],
    "data-dir": ["=DIR", "=NEW", "=FILE", "=PLACE/x"],
    "wal-dir": ["=NEW/wal"],
    "initial-cluster": ["=default=http://localhost:2380", "=x=http://localhost:2380"],
    "initial-advertise-peer-urls": ["=http://localhost:2380", "=http://localhost:1"],
    "lease": ["=5", "=ffffffffffffffffff"],
    "order": ["=DESCEND", "=ascend"],
    "peer-urls": ["=http://127.0.0.1:1", "=http://a", "=127.0.0.1:1"],
    "sort-by": [f"={name}" for name in ("CREATE", "KEY", "MODIFY", "VALUE", "VERSION", "key")],
    "target-version": ["=3.5", "=3.6", "=3.7", "=3.8", "=v3.6", "=3.x", "=3.-6"],
    "write-out": [f"={name}" for name in ("fields", "json", "protobuf", "simple", "table", "JSON")],
}
NEEDED = {"defrag": ["--data-dir=DIR"], "migrate": ["--data-dir=DIR", "--target-version=3.7"], "restore": ["--data-dir=NEW"]}
# stderr has the settings and the log of Go's gRPC; the name of the resolver that did not know the domain.
ONLY_CODE = ("debug", "discovery-srv")


def lines(text: str) -> dict[tuple[str, ...], list[str]]:
    """The lines by command."""
    found = {}
    for line in re.split(r"[|\n]", text):
        words = line.split()
        path = next(path for size in (2, 1) if (path := tuple(words[:size])) in known_commands())
        found[path] = words
    return found


@cache
def known_commands() -> dict[tuple[str, ...], str]:
    """The commands of both tools that do something, with their pages of help."""
    return {path: page for name in ("etcdctl", "etcdutl") for path, page in commands(name).items()}


@cache
def commands(program: str) -> dict[tuple[str, ...], str]:
    pages = dict(commands_of(program))
    groups = {path[:-1] for path in pages}
    return {path: page for path, page in pages.items() if path not in groups}


def local_flags(page: str) -> list[tuple[str, str]]:
    return sorted(flags_of(re.sub(r"(?s)\nGlobal Flags:\n.*", "", page)))


def variants(flag: tuple[str, str]) -> list[list[str]]:
    """A flag with each value to try, and without one."""
    name, kind = flag
    written = [f"--{name}{value}".split() for value in [*VALUES[kind], *NAMED_VALUES.get(name, [])]]
    return [*written, [f"--{name}"]]


def compared(pair: NewerPair, words: Sequence[str], flag: str) -> str:
    """ "" or the difference between the two outcomes, without IDs that a server invents and indexes that depend on timing."""
    sides = []
    for outcome in pair.run(words):
        code, out, err = pair.comparable(outcome)
        out = re.sub(rb"\b([0-9a-f]{14,16}|[0-9]{17,20})\b", b"ID", out)
        if words[0] in OWN_WORDS or flag in ONLY_CODE:
            out, err = b"", [line for line in err if line.startswith("Error: ") and flag not in ONLY_CODE]
        elif words[:2] == ["endpoint", "status"]:
            out = re.sub(rb"\d+(\.\d+)?( [kM]?B)?", b"N", out)
        sides.append((code, out, err))
    return "" if sides[0] == sides[1] else f"{words}:\n  theirs: {sides[0]}\n  ours:   {sides[1]}\n"


@pytest.fixture(scope="module")
def newer_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewerPair]:
    with running_pair(tmp_path_factory.mktemp("newer")) as pair:
        yield pair


@pytest.mark.parametrize(("program", "text"), [("etcdctl", LINES), ("etcdutl", UTL_LINES)])
def test_every_command_has_a_line(program: str, text: str) -> None:
    assert len(commands(program)) > 5
    assert lines(text).keys() == commands(program).keys()


def test_every_command_of_etcdctl_with_every_flag_of_its_own(newer_pair: NewerPair, tmp_path: Path) -> None:
    differences = []
    for path, words in lines(LINES).items():
        words = [word.replace("FILE", str(tmp_path / "saved.db")) for word in words]
        flags = local_flags(commands("etcdctl")[path])
        differences.append(compared(newer_pair, words, ""))
        for flag in flags:
            if path[0] == "check" and flag[0] == "load":
                continue  # takes a minute; in test_ctl_mirror_and_check.py
            differences += [compared(newer_pair, [*words, *more], flag[0]) for more in variants(flag)]
    assert not any(differences), "\n".join(filter(None, differences))


def test_every_flag_of_all_commands(newer_pair: NewerPair) -> None:
    flags = flags_of(newer_pair.run(["options"])[0].out.decode())
    assert len(flags) > 20
    differences = [
        compared(newer_pair, ["get", "k", "--command-timeout=2s", *more], name)
        for name, kind in flags
        for more in variants((name, kind))
    ]
    assert not any(differences), "\n".join(filter(None, differences))


class Files:
    """A snapshot and a data directory of the real etcd, for command lines that may change them."""

    def __init__(self, place: Path) -> None:
        self.place = place
        (place / "etcd").mkdir()
        with running_etcd(place / "etcd", program=newer_etcd()) as server:
            for number in range(9):
                server.ctl("put", f"k{number % 3}", "value")
            server.ctl("compaction", "4")
            server.ctl("snapshot", "save", str(place / "saved.db"))
        self.directory = next(path.parent for path in place.rglob("member"))
        for spare in self.directory.glob("member/wal/*.tmp"):
            spare.unlink()

    def run(self, words: Sequence[str], number: int) -> tuple[Outcome, Outcome]:
        """etcdutl and tercetutl, each with files of its own."""
        outcomes = []
        for name in ("theirs", "ours"):
            place = self.place / f"{number}"
            place.mkdir()
            os.chdir(place)  # where a relative directory is made
            if any("DIR" in word for word in words):  # its log is 64 MB of zeros
                subprocess.run(["cp", "-r", "--sparse=always", self.directory, place / "d"], check=True, timeout=scaled(30))
            shutil.copy(self.place / "saved.db", place / "s.db")
            line = [named(word, place) for word in words]
            outcome = run_etcdutl(line) if name == "theirs" else run_ours(None, line, main=tercetutl.main)
            outcomes.append(Outcome(outcome.code, outcome.out, outcome.err.replace(str(place), "PLACE")))
            shutil.rmtree(place)
        return outcomes[0], outcomes[1]


def named(word: str, place: Path) -> str:
    names = {"FILE": "s.db", "DIR": "d", "NEW": "n", "PLACE": "."}
    return re.sub("|".join(names), lambda found: str(place / names[found[0]]), word)


def run_etcdutl(words: Sequence[str]) -> Outcome:
    done = subprocess.run(
        [tool("etcdutl"), *words], capture_output=True, env=clean_environment({}), timeout=scaled(30), check=False
    )
    return Outcome(done.returncode, done.stdout, done.stderr.decode())


def test_every_command_of_etcdutl_with_every_flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files, pair, differences = Files(tmp_path), NewerPair("127.0.0.1:1", "127.0.0.1:1"), []
    for path, words in lines(UTL_LINES).items():
        page = commands("etcdutl")[path]
        tried = [(words, "")] + [([*words, *more], flag[0]) for flag in sorted(flags_of(page)) for more in variants(flag)]
        for line, flag in tried:
            needed = [word for word in NEEDED.get(path[-1], []) if not word.startswith(f"--{flag}=") or not flag]
            sides = [utl_comparable(pair, outcome, path) for outcome in files.run([*line, *needed], len(differences))]
            differences.append("" if sides[0] == sides[1] else f"{line}:\n  theirs: {sides[0]}\n  ours:   {sides[1]}\n")
    assert not any(differences), "\n".join(filter(None, differences))


def utl_comparable(pair: NewerPair, outcome: Outcome, path: tuple[str, ...]) -> tuple[int, bytes, list[str]]:
    """Without the lines of the log, which begin with a time; etcdutl prints a mistake in a flag twice."""
    code, out, err = pair.comparable(outcome)
    err = list(dict.fromkeys(line for line in err if not re.match(r"\d{4}-", line)))
    return (code, b"", [line for line in err if line.startswith("Error: ")]) if path[0] in OWN_WORDS else (code, out, err)
