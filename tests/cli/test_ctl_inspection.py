"""history, deleted, diff and tree: the same answers from the real etcd and from tercet, for the same writes."""

from __future__ import annotations

import asyncio
import json
import threading
from base64 import b64decode
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from tercet.cli import tercetctl
from tercet.cli.ctl import tree
from tercet.cli.ctl.command import unknown_text
from tercet.cli.ctl.scrape import Scrape
from tercet.cli.ctl.top import Grouping, _increase
from tercet.proto import kv_pb2, rpc_pb2
from tests.support.etcd import binary, run_tool, running_etcd
from tests.support.processes import TERCET

Run = Callable[..., tuple[int, str, str]]
PAGE = 40  # more children than tree reads at once


@pytest.fixture(scope="module", params=["etcd", "tercet"])
def endpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server whose revisions 2 to 9 are those of `WRITES`, followed by directories for tree."""
    program = [binary("etcd")] if request.param == "etcd" else list(TERCET)
    with running_etcd(tmp_path_factory.mktemp(request.param), program=program) as server:

        def ctl(*words: str) -> None:
            run_tool("etcdctl", f"--endpoints={server.endpoint}", *words)

        for words in WRITES:
            ctl(*words)
        for number in range(PAGE):
            ctl("put", f"tree/d{number:02}/x", "")
        for name in ("tree/d00/y/z", "tree/e", "tree//f"):
            ctl("put", name, "")
        yield server.endpoint


WRITES = (
    ("put", "a/x", "one"),  # 2
    ("put", "a/x", "two"),  # 3
    ("put", "a/y", "first\nsecond"),  # 4
    ("del", "a/x"),  # 5
    ("put", "a/x", "three"),  # 6
    ("del", "a/y"),  # 7
    ("put", "a/z", "z"),  # 8
    ("put", "b", "not below a/"),  # 9
)


@pytest.fixture
def run(endpoint: str, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    """tercetctl in this process: exit code, stdout, stderr."""

    def once(*words: str) -> tuple[int, str, str]:
        code = tercetctl.main([f"--endpoints={endpoint}", *words])
        found = capsysbinary.readouterr()
        return int(code), found.out.decode(), found.err.decode()

    return once


def json_of(outcome: tuple[int, str, str]) -> Any:
    code, out, err = outcome
    assert (code, err) == (0, "")
    assert out.count("\n") == 1
    return json.loads(out)


def text(encoded: str) -> str:
    return b64decode(encoded).decode()


def test_history_has_every_version_and_deletion(run: Run) -> None:
    found = json_of(run("history", "a/x", "-w", "json"))
    versions = [(one["revision"], one["event"], text(one.get("value", ""))) for one in found["versions"]]
    assert versions == [(2, "put", "one"), (3, "put", "two"), (5, "delete", ""), (6, "put", "three")]
    assert [one.get("version") for one in found["versions"]] == [1, 2, None, 1]
    assert (text(found["key"]), found["compact_revision"]) == ("a/x", 0)


def test_history_limits_to_the_newest_versions(run: Run) -> None:
    code, out, err = run("history", "a/x", "--limit", "2")
    assert (code, err) == (0, "")
    assert [line.split()[:2] for line in out.splitlines()[1:]] == [["5", "delete"], ["6", "put"]]


def test_history_of_an_unknown_key_is_empty(run: Run) -> None:
    assert run("history", "nothing") == (0, "", "no version of nothing is stored\n")


def test_deleted_lists_keys_that_do_not_exist_now_with_their_last_values(run: Run) -> None:
    found = json_of(run("deleted", "a/", "-w", "json"))
    (one,) = found["deleted"]
    assert (text(one["key"]), one["revision"], text(one["value"]), one["mod_revision"]) == ("a/y", 7, "first\nsecond", 4)
    code, out, err = run("deleted", "")
    assert (code, out.splitlines()[1].split()) == (0, ["7", "12", "a/y", r'"first\nsecond"'])
    assert "get a/y --rev 6" in err


def changes(found: Any) -> list[tuple[str, str]]:
    return [(one["change"], text(one["key"])) for one in found["changes"]]


def test_diff_names_added_changed_and_deleted_keys(run: Run) -> None:
    found = json_of(run("diff", "--rev", "4..8", "a/", "-w", "json"))
    assert changes(found) == [("changed", "a/x"), ("deleted", "a/y"), ("added", "a/z")]
    assert [text(found["changes"][0][side]["value"]) for side in ("before", "after")] == ["two", "three"]
    code, out, err = run("diff", "--rev", "4..8", "a/")
    assert code == 0
    assert out.splitlines() == [
        "changed  a/x  (revision 3 -> 6)",
        "  - two",
        "  + three",
        "deleted  a/y  (revision 4)",
        "  - first",
        "  - second",
        "added    a/z  (revision 8)",
        "  + z",
    ]
    assert err == "revision 4 to 8: 1 added, 1 changed, 1 deleted\n"


def test_diff_of_equal_revisions_is_empty_and_the_exit_code_tells(run: Run) -> None:
    assert run("diff", "--rev", "6..6", "", "--exit-code")[:2] == (0, "")
    assert run("diff", "--rev", "6..8", "a/", "--exit-code", "--keys-only")[0] == 1


@pytest.mark.parametrize("given", ["", "x", "0..4", "5..4", "..4"])
def test_diff_refuses_revisions_that_are_none(run: Run, given: str) -> None:
    code, out, err = run("diff", "--rev", given, "a/")
    assert (code, out) == (128, "")
    assert err.startswith("Error: --rev ")


def paths(found: Any) -> list[str]:
    return [text(one["key"]) for one in found["children"]]


def test_tree_lists_each_child_once_across_pages(run: Run) -> None:
    found = json_of(run("tree", "tree/", "-w", "json", "--count"))
    assert paths(found) == ["tree//", *(f"tree/d{number:02}/" for number in range(PAGE)), "tree/e"]
    assert [one.get("keys") for one in found["children"][:3]] == [1, 2, 1]
    assert [one["directory"] for one in found["children"]] == [True] * (PAGE + 1) + [False]


def test_tree_finds_the_same_by_narrow_ranges(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [("tree", prefix, "--depth", depth) for prefix in ("", "tree/", "tree/d00/", "a") for depth in ("0", "1")]
    wide = [run(*line) for line in lines]
    monkeypatch.setattr(tree, "_COUNTED_KEYS_MAX", 0)
    assert [run(*line) for line in lines] == wide


class Counting:
    """The reads of a client. counted: the keys of all ranges read, which a member of etcd visits."""

    def __init__(self, keys: list[bytes]) -> None:
        self.kv = self
        self.counted = 0
        self._keys = sorted(keys)

    async def range(self, request: rpc_pb2.RangeRequest) -> rpc_pb2.RangeResponse:
        low = bisect_left(self._keys, request.key)
        high = len(self._keys) if request.range_end == b"\0" else bisect_left(self._keys, request.range_end)
        self.counted += high - low
        kvs = [kv_pb2.KeyValue(key=key) for key in self._keys[low:high][: request.limit]]
        return rpc_pb2.RangeResponse(kvs=kvs, count=high - low, more=high - low > request.limit)


@pytest.mark.parametrize("name", ["{:03}", "node-{:03}-of-a-cluster", "{:032x}"])
def test_tree_visits_few_keys_of_a_large_directory(name: str) -> None:
    directories = [f"big/{name.format(number * 7919)}/".encode() for number in range(300)]
    client = Counting([directory + b"%04d" % number for directory in directories for number in range(100)])

    async def paths() -> list[bytes]:
        scan = tree.Scan(cast(Any, client), b"/", depth=1, counts=False)
        return [child.path async for child in scan.children(b"big/")]

    assert asyncio.run(paths()) == sorted(directories)
    assert client.counted < 70 * 30_000, client.counted  # 150 times 30,000 if each page counted all that follow


def test_tree_descends_as_deep_as_asked(run: Run) -> None:
    assert run("tree", "tree/d00/", "--depth", "2")[1] == "x\ny/\n  z\n"
    assert run("tree", "a", "--delimiter", "/")[1] == "/\n"
    assert run("tree", "tree/d00/", "--delimiter", "y")[1] == "x\ny\n"


def test_formats_that_need_a_message_of_the_api_are_refused(run: Run) -> None:
    for words in (("history", "a"), ("deleted", "a"), ("diff", "--rev", "2..3", "a"), ("tree", "a")):
        assert run(*words, "-w", "fields") == (4, "", "Error: fields not supported as output format\n")
    for words in (("diff", "--rev", "2..3", "a"), ("tree", "a"), ("doctor",)):
        assert run(*words, "-w", "table") == (4, "", "Error: table not supported as output format\n")


def abbreviated(words: Sequence[str]) -> str:
    from tercet.cli.ctl.command import find

    return find(tercetctl.ROOT, words).title


@pytest.mark.parametrize(
    ("word", "command"), [("t", "txn"), ("dow", "downgrade"), ("do", "downgrade"), ("tre", "tree"), ("hi", "history")]
)
def test_an_abbreviation_that_etcdctl_understands_keeps_its_meaning(word: str, command: str) -> None:
    assert abbreviated([word]) == f"tercetctl {command}"


def test_a_suggestion_of_etcdctl_is_not_joined_by_other_commands() -> None:
    """`foo` is two letters from `top`, for which etcdctl suggests nothing."""
    assert "Did you mean" not in unknown_text([tercetctl.ROOT], "foo")
    assert (
        unknown_text([tercetctl.ROOT], "heck").count("\t") == 2
    )  # lock and check, as in etcdctl; `help` is suggested to nobody
    assert "\ttree\n" in unknown_text([tercetctl.ROOT], "tre")


def test_help_lists_them_apart_from_etcdctls(capsysbinary: pytest.CaptureFixture[bytes], tmp_path: Path) -> None:
    assert tercetctl.main(["help"]) == 0
    _, _, part = capsysbinary.readouterr().out.decode().partition("Inspection commands (not in etcdctl)\n")
    assert [line.split()[0] for line in part.split("\n\n")[0].splitlines()] == [
        *("deleted", "diff", "doctor", "history", "top", "tree")
    ]


@pytest.mark.parametrize(
    ("prefix", "depth", "key", "group"),
    [
        ("", 1, "a/b/c", "a/"),
        ("", 2, "a/b/c", "a/b/"),
        ("", 1, "/registry/pods/x", "/registry/"),
        ("/registry/", 1, "/registry/pods/x", "/registry/pods/"),
        ("", 1, "plain", "plain"),
        ("", 5, "a/b", "a/b"),
    ],
)
def test_top_groups_keys_by_their_first_parts(prefix: str, depth: int, key: str, group: str) -> None:
    assert Grouping(prefix.encode(), b"/", depth).of(key.encode()) == group.encode()


def test_top_shows_no_increase_of_a_client_that_was_among_the_others() -> None:
    before, after = (
        Scrape("".join(f'calls{{client="{name}"}} {value}\n' for name, value in values.items()), None)
        for values in ({"a": 5, "b": 7, "other": 9}, {"a": 8, "c": 40, "other": 2})
    )
    assert _increase(before, after, "calls", "client") == {"a": 3, "other": 0}
    assert _increase(Scrape("", None), after, "calls", "client") == {"a": 8, "c": 40, "other": 2}


def test_top_counts_sizes_writes_and_requests(endpoint: str, run: Run, request: pytest.FixtureRequest) -> None:
    """A thread puts a key until top has ended. Only tercet counts by client address."""
    is_etcd = request.node.callspec.params["endpoint"] == "etcd"
    ended = threading.Event()

    def put() -> None:
        while not ended.is_set():
            run_tool("etcdctl", f"--endpoints={endpoint}", "put", "top/x", "12345")

    writer = threading.Thread(target=put)
    writer.start()
    try:
        found = json_of(run("top", "top/", "--window", "2s", "-w", "json"))
        while not found["written"] or not (is_etcd or found["addresses"]):  # etcdctl has not put yet
            found = json_of(run("top", "top/", "--window", "2s", "-w", "json"))
    finally:
        ended.set()
        writer.join()
    assert [(text(one["prefix"]), one["deletes"]) for one in found["written"]] == [("top/x", 0)]
    assert "Put" in {one["method"] for one in found["methods"]}
    assert [one["address"] for one in found["addresses"]] == ([] if is_etcd else ["127.0.0.1"])
    assert all(one["calls"] > 0 and one.keys() >= {"received_bytes", "sent_bytes"} for one in found["addresses"])
    found = json_of(run("top", "t", "--window", "100ms", "-w", "json"))
    assert [(text(one["prefix"]), one["keys"], one["bytes"]) for one in found["stored"]] == [
        ("tree/", PAGE + 3, sum(map(len, ["tree/d00/x"] * PAGE + ["tree/d00/y/z", "tree/e", "tree//f"]))),
        ("top/", 1, 10),
    ]
    assert text(found["largest"][0]["key"]) in ("tree/d00/y/z", "top/x")
    assert found["errors"] == {}


def test_top_is_a_page_of_tables(run: Run) -> None:
    code, out, err = run("top", "a/", "--window", "1s")
    assert (code, err) == (0, "")
    assert " writes in 1 s\n" in out
    assert out.startswith("KEYS  SIZE  PREFIX\n   1  8 B   a/x\n")


@pytest.mark.parametrize("words", [["--limit", "0"], ["--window", "0s"], ["--depth", "0"], ["--delimiter", ""]])
def test_top_refuses_limits_of_nothing(run: Run, words: list[str]) -> None:
    assert run("top", *words)[0] == 128


def test_what_is_compacted_is_said(endpoint: str, run: Run) -> None:
    """The last test of the file: it compacts."""
    run_tool("etcdctl", f"--endpoints={endpoint}", "compaction", "6")
    code, out, err = run("history", "a/x")
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines()[1:]] == [["6", "put"]]
    assert err == "versions that were replaced or deleted before revision 6 are compacted\n"
    found = json_of(run("history", "a/x", "-w", "json"))
    assert found["compact_revision"] == 6
    run_tool("etcdctl", f"--endpoints={endpoint}", "compaction", "8")
    assert [one["revision"] for one in json_of(run("history", "a/x", "-w", "json"))["versions"]] == [6]
    assert json_of(run("deleted", "a/", "-w", "json"))["deleted"] == []
    code, _, err = run("diff", "--rev", "2..9", "a/")
    assert code == 1
    assert err.endswith("Error: etcdserver: mvcc: required revision has been compacted\n")
