"""tercetctl and tercetutl compared with the tools of etcd 3.7, byte for byte; commands and flags are those of the tools' help.

Needs a real etcd 3.7 (tests/support/newer.py); test_ctl_like_etcdctl.py compares with 3.5.1, which is always there.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.request import urlopen

import pytest

from tercet.cli.ctl.command import Command
from tercet.cli.tercetctl import ROOT as TERCETCTL
from tercet.cli.tercetutl import ROOT as TERCETUTL
from tests.cli.ctl_lines import KEYS, MISTAKES, REFUSALS, TXNS
from tests.cli.etcd_pair import Outcome, clean_environment
from tests.cli.newer_pair import NewerPair, running_pair, tool
from tests.support.newer import needs_newer_etcd
from tests.support.waiting import scaled, stretched, wait_until

pytestmark = needs_newer_etcd

FORMATS = ("simple", "fields", "json", "protobuf", "table", "bogus")
IN_ALL_FORMATS = """user add u:p|user get u|role add r|role get r|user grant-role u r|user list|role list|user get u --detail
role grant-permission r read k|role grant-permission r readwrite a b|role grant-permission r write p --prefix
role grant-permission r write z --from-key|role get r|user passwd u --interactive=false|role revoke-permission r k
role revoke-permission r a b|role revoke-permission r p --prefix|role revoke-permission r z --from-key|user revoke-role u r
role delete r|user delete u|auth status|member list|alarm list|alarm disarm|lease list|lease timetolive 5|endpoint health
downgrade validate 3.6|downgrade validate x|downgrade cancel"""
ONCE = """role get root|role add|role get|role delete|role list x|role grant-permission|role grant-permission a b c
role revoke-permission x|role revoke-permission x y|user add|user add :p|user add a:|user add b --new-user-password pw
user add c --no-password|user add d --interactive=false|user add e|user get|user get nope|user delete|user delete nope
user list x|user passwd|user passwd b|user grant-role|user grant-role a b|user revoke-role|user revoke-role a b|auth enable x
auth enable|auth status x|auth disable x|downgrade|downgrade validate|downgrade enable x|downgrade validate a b
member add|member add x|member add x y|member add x http://a|member add x --peer-urls bad|member remove|member remove zz
member remove 5|member update 5|member update zz|member update 5 --peer-urls bad|member promote|member promote 5
member add x --peer-urls http://127.0.0.1:1|member list --consistency s|member list --consistency x|lease grant|lease grant x
lease grant 99999999999|lease revoke|lease revoke zz|lease revoke 5|lease timetolive|lease timetolive 5 --keys|lease keep-alive
lease keep-alive zz|lease keep-alive --once 5|lease keep-alive 5|watch|watch a b --prefix|watch a --|lock|elect|elect a
elect a b -l|lock l true|lock l nosuch|bogus|gett|l|m|--prefix get foo|--limit 5 get a|completion|completion bogus
completion bash x|check perf --load x|make-mirror|make-mirror a --dest-prefix x --no-dest-prefix|snapshot save
snapshot save a b|move-leader|get a --stream|get --prefix --stream a -w json|get a --min-mod-rev 5 --max-mod-rev 3
get a --max-mod-rev=-5|help bogus|get a --max-recv-bytes=-1|get a --max-request-bytes=-1|put a b --max-request-bytes=2
endpoint hashkv --rev 100000 -w json|endpoint hashkv --rev 100000 -w table|endpoint hashkv --rev 100000 -w fields
snapshot save /nonexistent/x|snapshot save /dev/null/x|make-mirror --dest-cert x a:1
make-mirror --dest-cert x a|get a --dial-timeout 99999999999999999999|get a --dial-timeout 99999999999h
make-mirror --dest-cacert /nonexistent a|txn --cacert /nonexistent|watch --cacert /nonexistent|watch -w x|get a --cacert /tmp
endpoint health --max-recv-bytes=1|snapshot save /tmp/tercet-never-written --max-recv-bytes=1
make-mirror a:1 --max-txn-ops=-1|get a --dial-timeout=0s|get a --dial-timeout=-1s
endpoint health --cluster --cacert /nonexistent|endpoint status --cluster --cert x|endpoint hashkv --cluster --key x
defrag --cluster --cacert /nonexistent|endpoint hashkv --cluster --max-recv-bytes=1 --command-timeout=3s"""
WATCH_LINES = (b"'\n", b'"\n', b"\n\n \n", b"watch a -- \n", b"watch a --\n", b"progress\n", b"watch 'a\n", b'watch "\\q"\n')
VARIABLES = {
    "ETCDCTL_CLUSTER=true": ["get a", "endpoint status", "endpoint status --cluster"],
    "ETCDCTL_HEX=": ["get a", "get a --hex"],
    "ETCDCTL_INSECURE_TRANSPORT=no": ["get a"],
}
UNREACHABLE = """endpoint status|endpoint status -w json|endpoint status -w table|endpoint hashkv -w json
endpoint hashkv -w table|get a|get a --user a:b|put a b --user a --password b
member list|auth status|compaction 1|lease grant 5|defrag"""


@pytest.fixture(scope="module")
def newer_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewerPair]:
    with running_pair(tmp_path_factory.mktemp("newer")) as pair:
        yield pair


def lines(text: str) -> list[list[str]]:
    return [line.split() for line in re.split(r"[|\n]", text)]


def check(pair: NewerPair, words: Sequence[Sequence[str | bytes]], stdin: bytes = b"") -> None:
    differences = [difference for one in words if (difference := pair.difference(one, stdin)) and not explains(one)]
    assert not differences, "\n".join(differences)


def explains(words: Sequence[str | bytes]) -> bool:
    """Lines that print a page of help, which is in our own words."""
    return len(words) == 1 and words[0] in ("downgrade", "lease")


def test_lines_in_all_formats(newer_pair: NewerPair) -> None:
    check(newer_pair, [[*words, "-w", name] for words in lines(IN_ALL_FORMATS) for name in FORMATS])


def test_lines_with_hex_ids(newer_pair: NewerPair) -> None:
    words = ["member list", "lease list", "lease timetolive 5", "alarm list"]
    check(newer_pair, [[*line.split(), "--hex", "-w", name] for line in words for name in ("simple", "fields", "json")])


def test_single_lines(newer_pair: NewerPair) -> None:
    check(newer_pair, lines(ONCE))


def test_keys_and_refusals(newer_pair: NewerPair) -> None:
    check(newer_pair, [*KEYS, *REFUSALS, *MISTAKES])


def test_lines_of_an_interactive_watch(newer_pair: NewerPair) -> None:
    for stdin in WATCH_LINES:
        check(newer_pair, [["watch", "-i"]], stdin)


def test_no_server_answers(newer_pair: NewerPair) -> None:
    nowhere = NewerPair("127.0.0.1:1", "127.0.0.1:1")
    check(nowhere, [[*words, "--command-timeout=500ms", "--dial-timeout=500ms"] for words in lines(UNREACHABLE)])


def test_variables(newer_pair: NewerPair) -> None:
    for setting, lines_ in VARIABLES.items():
        name, _, value = setting.partition("=")
        for line in lines_:
            words = [*line.split(), "--command-timeout=2s"]
            assert not newer_pair.difference(words, **{name: value}), setting


@pytest.mark.parametrize("flags", [[], ["-w", "json"], ["-i", "-w", "fields"]])
def test_transactions(newer_pair: NewerPair, flags: list[str]) -> None:
    for stdin in TXNS:
        check(newer_pair, [["txn", *flags]], stdin)


def help_of(program: str, words: Sequence[str]) -> str:
    done = subprocess.run(
        [tool(program), *words, "--help"],
        capture_output=True,
        text=True,
        env=clean_environment({}),
        timeout=scaled(20),
        check=True,
    )
    return done.stdout


def commands_of(program: str, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """All commands with their help pages, as the real program's help lists them."""
    page = help_of(program, path)
    yield path, page
    for section in re.findall(r"(?m)^(?:[A-Z][^\n]* commands|Available Commands:)\n((?:  [^\n]*\n)+)", page):
        for name in re.findall(r"(?m)^  ([a-z-]+) ", section):
            if name != "help":
                yield from commands_of(program, (*path, name))


def flags_of(page: str) -> set[tuple[str, str]]:
    """Names and types of the flags on a page of help."""
    found = re.findall(r"(?m)^  (?:-\w,|   ) --([a-z-]+)(?: (string|int|uint|duration|strings))?(?= )", page)
    return {(name, kind) for name, kind in found if name != "help"}


def defaults_of(page: str) -> dict[str, str]:
    return dict(re.findall(r"(?m)^  (?:-\w,|   ) --([a-z-]+) .*\(default (.*?)\)$", page))


@pytest.mark.parametrize(("program", "root"), [("etcdctl", TERCETCTL), ("etcdutl", TERCETUTL)])
def test_no_command_and_no_flag_is_missing(program: str, root: Command, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    from tercet.cli import tercetctl, tercetutl

    main = tercetctl.main if program == "etcdctl" else tercetutl.main
    pages = dict(commands_of(program))
    assert len(pages) > 5
    for path, page in pages.items():
        command = root
        for name in path:
            assert name in {child.name for child in command.commands}, path
            command = next(child for child in command.commands if child.name == name).loaded()
        main([*path, "--help"])
        ours = capsysbinary.readouterr().out.decode()
        theirs = page if program == "etcdutl" else re.sub(r"(?s)\nGlobal Flags:\n.*", "", page)
        if path:
            assert flags_of(theirs) <= flags_of(ours), path
            assert defaults_of(theirs).items() <= defaults_of(ours).items(), path
        else:
            titles = re.findall(r"(?m)^[A-Z].* commands$", page)
            assert [title for title in titles if title not in ours] == []


def test_options_lists_the_same_flags(newer_pair: NewerPair) -> None:
    theirs, ours = newer_pair.run(["options"])
    assert flags_of(theirs.out.decode()) == flags_of(ours.out.decode())
    assert defaults_of(theirs.out.decode()) == defaults_of(ours.out.decode())


def watchers(endpoint: str) -> int:
    """How many watches a server has."""
    with urlopen(f"http://{endpoint}/metrics", timeout=scaled(20)) as page:
        return int(re.findall(rb"(?m)^etcd_debugging_mvcc_watcher_total (\d+)", page.read())[0])


class Following:
    """A command that runs until it is told to stop: etcdctl on one server, tercetctl on the other."""

    def __init__(self, pair: NewerPair, words: Sequence[str], *, prints: int = 0, watches: bool = False) -> None:
        """Return when both have printed so many lines; watches: when both servers have a watcher more."""
        self.pair = pair
        endpoints = (pair.theirs, pair.ours)
        before = [watchers(endpoint) for endpoint in endpoints]
        programs = (tool("etcdctl"), Path(sys.executable).with_name("tercetctl"))
        self.processes = [
            subprocess.Popen(
                [program, f"--endpoints={endpoint}", *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=clean_environment({}),
                bufsize=0,
            )
            for program, endpoint in zip(programs, endpoints, strict=True)
        ]
        self.printed = [b"" for _ in self.processes]
        self.read(prints)
        if watches:
            wait_until(
                lambda: all(watchers(endpoint) > count for endpoint, count in zip(endpoints, before, strict=True)),
                f"{words} watches at both servers",
            )

    def read(self, lines: int) -> None:
        """Wait until both have printed so many lines more."""
        for number, process in enumerate(self.processes):
            assert process.stdout is not None
            self.printed[number] += b"".join(process.stdout.readline() for _ in range(lines))

    def end(self, number: signal.Signals | None) -> tuple[object, ...]:
        """What both did, comparable, after a signal or by themselves. IDs of leases are left out."""
        found = []
        for process, printed in zip(self.processes, self.printed, strict=True):
            if number is not None:
                process.send_signal(number)
            out, err = process.communicate(timeout=scaled(20))
            plain = re.sub(rb"[0-9a-f]{14,16}|\d{17,19}", b"ID", printed + out)
            found.append(self.pair.comparable(Outcome(process.returncode, plain, err.decode())))
        return tuple(found)


@pytest.mark.parametrize(
    ("flags", "prints"),
    [([], 9), (["-w", "json", "--prev-kv"], 3), (["-w", "fields"], 33), (["--", "sh", "-c", "echo $ETCD_WATCH_KEY"], 12)],
)
def test_watch(newer_pair: NewerPair, flags: list[str], prints: int) -> None:
    following = Following(newer_pair, ["watch", "watched", *flags], watches=True)
    check(newer_pair, [["put", "watched", "1"], ["put", "watched", "2"], ["del", "watched"]])
    following.read(prints)
    time.sleep(stretched(0.3))  # either may still wait for its command to exit, and print more than it should
    theirs, ours = following.end(signal.SIGINT)
    assert theirs == ours


def test_lock_and_elect_release_at_a_signal(newer_pair: NewerPair) -> None:
    for words, prints in ((["lock", "l1"], 1), (["elect", "e1", "p"], 2), (["elect", "-l", "e2"], 0)):
        theirs, ours = Following(newer_pair, words, prints=prints, watches=not prints).end(signal.SIGTERM)
        assert theirs == ours, words
        check(newer_pair, [["get", "l1", "--prefix"], ["get", "e1", "--prefix"]])


def test_lock_exits_with_the_status_of_its_command(newer_pair: NewerPair) -> None:
    theirs, ours = Following(newer_pair, ["lock", "l3", "--", "sh", "-c", "exit 7"]).end(None)
    assert theirs == ours
