"""tercetctl compared with etcdctl 3.5.1: the same commands on servers with the same IDs print the same bytes.

Where etcdctl 3.7 prints something else than 3.5.1, the case carries a function that turns the one into the other; those
functions, and the tests marked with a version, are the whole list of differences.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tercet.client import ClusterChannel
from tercet.proto import rpc_pb2
from tests.cli.conftest import Pair
from tests.cli.ctl_lines import KEYS, MISTAKES, REFUSALS, TXNS, Words, in_all
from tests.cli.etcd_pair import ADVERTISED, Outcome, run_ours, run_theirs


def boxed(out: bytes) -> bytes:
    """[3.7] Tables are drawn with box-drawing characters."""
    lines = out.decode().splitlines()
    rules = [number for number, line in enumerate(lines) if line.startswith("+")]
    for number, corners in zip(rules, ("┌┬┐", "├┼┤", "└┴┘"), strict=True):
        left, middle, right = tuple(corners)
        lines[number] = lines[number][1:-1].replace("-", "─").replace("+", middle).join((left, right))
    body = [line if number in rules else line.replace("|", "│") for number, line in enumerate(lines)]
    return ("\n".join(body) + "\n").encode()


def without_zero_revision(out: bytes) -> bytes:
    """[3.6] The fields format omits a revision of 0."""
    return out.replace(b'"Revision" : 0\n', b"")


def hash_revision(out: bytes) -> bytes:
    """[3.6] hashkv prints the hash revision, which a 3.5 server does not report."""
    if out.startswith(b'"'):
        return re.sub(rb'("Hash" : \d+\n)', rb'\1"HashRevision" : 0\n', out)
    return re.sub(rb"\n", b", 0\n", out)


def urls_key(out: bytes) -> bytes:
    """[3.7] `clientURLs` is spelled the same with --hex."""
    return out.replace(b"clientURLS", b"clientURLs")


def ids_in_hex(out: bytes) -> bytes:
    """[3.6] The fields format honours --hex: IDs in hexadecimal, leases with sixteen digits."""
    out = re.sub(rb'("(?:ClusterID|MemberID|ID)" : )(\d+)', lambda found: found[1] + b"%x" % int(found[2]), out)
    return re.sub(rb'("\w*Lease" : )(\d+)', lambda found: found[1] + b"%016x" % int(found[2]), out)


def both(*changes: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    def change(out: bytes) -> bytes:
        for one in changes:
            out = one(out)
        return out

    return change


@dataclass(frozen=True)
class Case:
    """Command lines to run in order. `changed` turns 3.5.1's output into 3.7's."""

    lines: list[Words]
    stdin: bytes = b""
    changed: Callable[[bytes], bytes] = bytes
    variables: tuple[tuple[str, str], ...] = ()


CLUSTER = [
    Case([["version", "x"]], changed=lambda out: out.replace(b"3.5.1", b"3.7.3").replace(b"3.5\n", b"3.7\n") + VERSION_LINE),
    Case([["member", "list"], ["mem", "li"], ["member", "list", "x"], ["member", "list", "--hex"]]),
    Case([["member", "list", "-w", "json"]]),
    Case([["member", "list", "-w", "fields"]], changed=without_zero_revision),
    Case([["member", "list", "-w", "table"], ["member", "list", "-w", "table", "--hex"]], changed=boxed),
    Case([["member", "list", "-w", "json", "--hex"]], changed=urls_key),
    Case([["member", "list", "-w", "fields", "--hex"]], changed=both(without_zero_revision, ids_in_hex)),
    Case([["get", "", "--prefix", "-w", "fields", "--hex"]], changed=ids_in_hex),
    Case(
        [["endpoint", "hashkv"], ["endpoint", "hashkv", "--rev", "5"], ["endpoint", "hashkv", "-w", "fields"]],
        changed=hash_revision,
    ),
    Case([["endpoint", "hashkv", "-w", "json"], ["endpoint", "hashkv", "-w", "protobuf"]]),
    Case([["alarm", "list"], *in_all("alarm", "list", formats="json protobuf table fields")]),
    Case([["alarm", "disarm"], ["alarm", "disarm", "-w", "json"]]),
    Case([["get", "foo"]], variables=(("ETCDCTL_WRITE_OUT", "json"),)),
    Case([["get", "foo"]], variables=(("ETCDCTL_HEX", "true"), ("ETCDCTL_COMMAND_TIMEOUT", "3s"))),
    Case([["get", "foo"]], variables=(("ETCDCTL_HEX", "maybe"),)),
    Case([["get", "foo", "--hex"]], variables=(("ETCDCTL_HEX", "true"),)),
    Case(
        [
            ["get", "foo", "--user", "root:x"],
            ["get", "foo", "--user", "root", "--password", "x"],
            ["get", "foo", "--password", "x"],
        ]
    ),
    Case([["compaction", "5"], ["compaction", "5"], ["compaction", "7", "--physical"], ["get", "foo", "--rev", "2"]]),
]

VERSION_LINE = b"tercet version: 0.1.0\n"


def check(pair: Pair, case: Case) -> None:
    for words in case.lines:
        theirs = run_theirs(pair.theirs, words, case.stdin, **dict(case.variables))
        ours = run_ours(pair.ours, words, case.stdin, **dict(case.variables))
        assert ours.out.replace(pair.ours.encode(), b"EP") == case.changed(theirs.out).replace(pair.theirs.encode(), b"EP"), (
            words
        )
        assert (ours.error, ours.code) == (theirs.error, theirs.code), words


def test_keys(pair: Pair) -> None:
    check(pair, Case(KEYS))


def test_value_from_stdin(pair: Pair) -> None:
    check(pair, Case([["put", "piped"], ["get", "piped", "-w", "fields"]], stdin=b"two\nlines\xff\n"))


def test_invalid_arguments(pair: Pair) -> None:
    check(pair, Case(REFUSALS))


@pytest.mark.parametrize("flags", [[], ["-w", "fields"], ["-w", "json"], ["--hex", "-i"]])
def test_txns(pair: Pair, flags: Words) -> None:
    for stdin in TXNS:
        check(pair, Case([["txn", *flags]], stdin))


def test_single_quotes_in_a_txn(pair: Pair) -> None:
    """3.5.1 truncates a single-quoted word to as many characters as the line has words; tercetctl does not."""
    run_ours(pair.ours, ["txn"], b"\nput quoted 'c d\\t'\nget quoted\n\n\n")
    run_theirs(pair.theirs, ["put", "quoted", "c d\\t"])
    check(pair, Case([["get", "quoted"]]))


def test_txn_protobuf_and_table(pair: Pair) -> None:
    for name in ("protobuf", "table"):
        check(pair, Case([["txn", "-w", name]], TXNS[0]))


@pytest.mark.parametrize("case", CLUSTER, ids=lambda case: " ".join(map(str, case.lines[0])))
def test_cluster(pair: Pair, case: Case) -> None:
    check(pair, Case([["put", "foo", "bar"]]))
    check(pair, case)


@pytest.mark.parametrize("words", MISTAKES, ids=lambda words: " ".join(map(str, words)))
def test_invalid_flags(pair: Pair, words: Words) -> None:
    theirs, ours = run_theirs(pair.theirs, words), run_ours(pair.ours, words)
    assert (ours.error, ours.code) == (theirs.error.replace("etcdctl", "tercetctl"), theirs.code)
    assert ours.out == b""


def test_a_failed_call_logs_a_warning(pair: Pair) -> None:
    """A log line precedes the error; its time, target and source line differ."""
    words: Words = ["get", "foo", "--rev", "100000"]
    theirs, ours = run_theirs(pair.theirs, words), run_ours(pair.ours, words)
    wanted = re.compile(r'"msg":"retrying of unary invoker failed".*"attempt":0,"error":"([^"]*)"')
    found = [wanted.search(outcome.err) for outcome in (theirs, ours)]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0][1] == found[1][1]


def test_unknown_environment_variables_log_a_warning(pair: Pair) -> None:
    for variables in ({"ETCDCTL_BOGUS": "3"}, {"ETCDCTL_CERT": ""}):
        outcomes = run_theirs(pair.theirs, ["get", "x"], **variables), run_ours(pair.ours, ["get", "x"], **variables)
        warnings = [re.findall(r'"msg":"(unrec[^"]*)".*"environment-variable":"([^"]*)"', outcome.err) for outcome in outcomes]
        assert warnings[0] == warnings[1] != []


@pytest.mark.parametrize("form", ["{}:{},", " {}:{}", "{}:{} ", "{0}:{1},,{0}:{1}", ":{1}", "http://:{1}"])
def test_forms_of_endpoints(pair: Pair, form: str) -> None:
    theirs, ours = (
        run("", [f"--endpoints={form.format(*endpoint.split(':'))}", "get", "x"])
        for run, endpoint in ((run_theirs, pair.theirs), (run_ours_as_is, pair.ours))
    )
    assert theirs.code == 0, theirs.err
    assert (ours.out, ours.code) == (theirs.out, theirs.code), ours.err


def test_no_endpoints(pair: Pair) -> None:
    theirs, ours = run_theirs("", ["--endpoints=", "get", "x"]), run_ours_as_is("", ["--endpoints=", "get", "x"])
    assert (ours.error, ours.code) == (theirs.error, theirs.code)


def run_ours_as_is(_: str, words: Words) -> Outcome:
    return run_ours(None, words)


def test_a_user_while_auth_is_disabled_is_a_warning(pair: Pair) -> None:
    words: Words = ["get", "x", "--user", "root:secret"]
    theirs, ours = run_theirs(pair.theirs, words), run_ours(pair.ours, words)
    assert (ours.out, ours.code) == (theirs.out, theirs.code) == (ours.out, 0)
    text = '"error":"rpc error: code = FailedPrecondition desc = etcdserver: authentication is not enabled"'
    assert text in theirs.err
    assert text in ours.err


class TestEndpoints:
    """Health and status print times and indexes, which differ between runs."""

    def test_health(self, pair: Pair) -> None:
        for name in ("simple", "json", "fields"):
            words: Words = ["endpoint", "health", "-w", name]
            theirs, ours = run_theirs(pair.theirs, words), run_ours(pair.ours, words)
            assert _without_times(ours.out, pair.ours) == _without_times(theirs.out, pair.theirs)
            assert ours.code == theirs.code == 0

    def test_health_with_unreachable_endpoints(self, pair: Pair) -> None:
        words: Words = ["endpoint", "health", "--endpoints=127.0.0.1:1", "--command-timeout=2s"]
        formats: list[Words] = [[], ["-w", "json"], ["-w", "fields"]]
        with ThreadPoolExecutor() as pool:
            all_theirs = list(pool.map(lambda more: run_theirs(pair.theirs, [*words, *more]), formats))
        for more, theirs in zip(formats, all_theirs, strict=True):
            ours = run_ours(pair.ours, [*words, *more])
            assert _without_times(ours.out, pair.ours) == _without_times(theirs.out, pair.theirs)
            unhealthy = [[line for line in outcome.err.splitlines() if "unhealthy" in line] for outcome in (theirs, ours)]
            assert unhealthy[0] == unhealthy[1] != []
            assert ours.code == theirs.code == 1

    def test_status(self, pair: Pair) -> None:
        """[3.6] Storage version, size in use, its percentage and quota; [3.7] downgrade. The rest is as in 3.5.1."""
        theirs = run_theirs(pair.theirs, ["endpoint", "status"]).out.decode().rstrip("\n").split(", ")
        ours = run_ours(pair.ours, ["endpoint", "status"]).out.decode().rstrip("\n").split(", ")
        assert ours[1:3] + ours[8:11] == theirs[1:3] + theirs[4:7]  # the size depends on when the server commits
        assert (ours[0], theirs[0], ours[3], ours[7]) == (pair.ours, pair.theirs, "", "0 B")
        assert re.fullmatch(r"\d+%", ours[6])
        assert ours[13:] == ["", "", "false"]

    def test_status_json(self, pair: Pair) -> None:
        pattern = rb'"(raftIndex|raftAppliedIndex|dbSizeInUse|dbSize)":\d+'
        outs = [
            re.sub(pattern, rb'"\1":N', outcome.out).replace(endpoint.encode(), b"EP")
            for outcome, endpoint in (
                (run_theirs(pair.theirs, ["endpoint", "status", "-w", "json"]), pair.theirs),
                (run_ours(pair.ours, ["endpoint", "status", "-w", "json"]), pair.ours),
            )
        ]
        assert outs[0] == outs[1]

    def test_status_with_unreachable_endpoints(self, pair: Pair) -> None:
        words: Words = ["endpoint", "status", "--endpoints=127.0.0.1:1", "--command-timeout=2s"]
        theirs, ours = run_theirs(pair.theirs, words), run_ours(pair.ours, words)
        failed = "Failed to get the status of endpoint 127.0.0.1:1 (context deadline exceeded)"
        assert failed in theirs.err
        assert failed in ours.err
        assert (theirs.error, theirs.code) == (ours.error, ours.code)

    def test_cluster_flag_queries_all_members(self, pair: Pair) -> None:
        """Nothing listens on the advertised address; both report the same one."""
        words: Words = ["endpoint", "health", "--cluster", "--command-timeout=2s"]
        theirs, ours = run_theirs(pair.theirs, words), run_ours(pair.ours, words)
        assert f"{ADVERTISED} is unhealthy: failed to commit proposal: context deadline exceeded" in theirs.err
        assert f"{ADVERTISED} is unhealthy: failed to commit proposal: context deadline exceeded" in ours.err
        assert (theirs.error, theirs.code) == (ours.error, ours.code)

    def test_defrag(self, pair: Pair) -> None:
        """[3.6] It prints the duration."""
        theirs, ours = run_theirs(pair.theirs, ["defrag"]), run_ours(pair.ours, ["defrag"])
        wanted = theirs.out.decode().replace(pair.theirs, pair.ours).rstrip("\n")
        assert re.fullmatch(re.escape(wanted) + r"\. took [0-9.]+(m|µ)?s\n", ours.out.decode())


def _without_times(out: bytes, endpoint: str) -> str:
    text = out.decode().replace(endpoint, "EP")
    return re.sub(r"\d+(\.\d+)?(m|µ)?s\b", "TIME", text)


def test_deleting_a_range_waits_for_an_interrupt(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """[3.6] Without --range the command pauses first; 3.5.1 has neither the pause nor the flag."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("tercet.cli.ctl.keys.asyncio.sleep", sleep)
    theirs, ours = run_theirs(pair.theirs, ["del", "a", "c"]), run_ours(pair.ours, ["del", "a", "c"])
    assert (ours.out, ours.code) == (theirs.out, theirs.code)
    assert slept == [2]
    assert 'Warning: Keys between "a" and "c" will be deleted.' in ours.err
    assert "You can provide `--range` flag to avoid the delay." in ours.err
    run_theirs(pair.theirs, ["del", "a", "c"])
    assert run_ours(pair.ours, ["del", "a", "c", "--range"]).code == 0
    assert slept == [2]


def test_debug_prints_the_settings(pair: Pair) -> None:
    theirs, ours = run_theirs(pair.theirs, ["get", "x", "--debug"]), run_ours(pair.ours, ["get", "x", "--debug"])
    shown = [
        {line for line in outcome.err.replace(endpoint, "EP").splitlines() if line.startswith("ETCDCTL_")}
        for outcome, endpoint in ((theirs, pair.theirs), (ours, pair.ours))
    ]
    assert shown[0] <= shown[1]
    assert {line.partition("=")[0] for line in shown[1] - shown[0]} == {
        "ETCDCTL_AUTH_JWT_TOKEN",  # [3.7]
        "ETCDCTL_MAX_RECV_BYTES",  # [3.6]
        "ETCDCTL_MAX_REQUEST_BYTES",  # [3.6]
    }


def without_trailing_blank(out: bytes) -> bytes:
    """[3.7] The line of an alarm has single spaces and no trailing one."""
    return re.sub(rb" +(\n|alarm:)", lambda found: b"\n" if found[1] == b"\n" else b" alarm:", out)


def test_an_alarm_is_listed_and_disarmed(pair: Pair) -> None:
    """Raised through the API: it is listed, makes the endpoint unhealthy, blocks writes, and is disarmed."""

    async def raise_alarm(endpoint: str) -> None:
        async with ClusterChannel([endpoint]) as client:
            member = (await client.maintenance.status(rpc_pb2.StatusRequest())).header.member_id
            request = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.ACTIVATE, memberID=member, alarm=rpc_pb2.NOSPACE)
            await client.maintenance.alarm(request)

    for endpoint in (pair.theirs, pair.ours):
        asyncio.run(raise_alarm(endpoint))
    check(pair, Case([["alarm", "list"]], changed=without_trailing_blank))
    check(pair, Case([["put", "x", "y"], ["alarm", "list", "-w", "json"], ["alarm", "list", "-w", "fields"]]))
    for name in ("simple", "json", "fields"):
        words: Words = ["endpoint", "health", "-w", name]
        theirs, ours = run_theirs(pair.theirs, words), run_ours(pair.ours, words)
        assert _without_times(ours.out, pair.ours) == _without_times(theirs.out, pair.theirs)
        assert ours.err.replace(pair.ours, "EP").splitlines()[-1] == theirs.err.replace(pair.theirs, "EP").splitlines()[-1]
        assert (ours.error, ours.code) == (theirs.error, theirs.code) == ("Error: unhealthy cluster", 1)
    check(pair, Case([["alarm", "disarm"]], changed=without_trailing_blank))
    check(pair, Case([["put", "x", "y"], ["alarm", "list"]]))


def test_auth(pair: Pair) -> None:
    """With auth enabled: no user, a wrong password, missing permissions, and a correct password in both forms."""
    root: Words = ["--user", "root:secret"]
    set_up: list[Words] = [
        ["user", "add", "root:secret"],
        ["user", "add", "guest:guest"],
        ["auth", "enable"],
    ]
    for endpoint in (pair.theirs, pair.ours):
        for words in set_up:
            assert run_theirs(endpoint, words).code == 0
    try:
        check(
            pair,
            Case(
                [
                    ["get", "x"],
                    ["get", "x", "--user", "root:wrong"],
                    ["get", "x", "--user", "nobody:x"],
                    ["get", "x", "--user", "guest:guest"],
                    ["get", "x", *root],
                    ["put", "x", "y", "--user=root", "--password=secret", "-w", "json"],
                    ["endpoint", "hashkv", "--rev", "100000", "--user", "guest:guest"],
                    ["endpoint", "hashkv", "--user", "root:wrong"],
                    ["endpoint", "status", "--user", "root:wrong"],
                    ["defrag", "--user", "root:wrong"],
                ]
            ),
        )
        # The password from stdin, which is no terminal here.
        for password in (b"secret\n", b"secret", b"wrong\n", b""):
            for words in (["get", "x", "--user", "root"], ["get", "x", "--user", "root:"]):
                theirs, ours = run_theirs(pair.theirs, words, password), run_ours(pair.ours, words, password)
                assert ours.out == theirs.out, (password, words)
                assert (ours.error, ours.code) == (theirs.error, theirs.code), (password, words)
        for endpoint, run in ((pair.theirs, run_theirs), (pair.ours, run_ours)):
            assert run(endpoint, ["endpoint", "health", "--user", "guest:guest"]).code == 0  # refused, hence alive
    finally:
        for endpoint in (pair.theirs, pair.ours):
            assert run_theirs(endpoint, [*root, "auth", "disable"]).code == 0
