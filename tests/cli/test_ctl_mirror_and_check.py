"""make-mirror between two servers, and check with a short load."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tercet.cli.ctl import check
from tests.cli.conftest import Pair
from tests.cli.etcd_pair import clean_environment, run_ours, run_theirs
from tests.support.etcd import running_etcd
from tests.support.processes import wait_until
from tests.support.waiting import scaled


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Servers of this module: what it writes to one of them would differ from what other tests compare."""
    places = [tmp_path_factory.mktemp(name) for name in ("theirs", "ours")]
    with running_etcd(places[0]) as theirs, running_etcd(places[1]) as ours:
        yield Pair(theirs.endpoint, ours.endpoint)


TERCETCTL = Path(sys.executable).with_name("tercetctl")


def test_make_mirror_copies_and_follows(pair: Pair) -> None:
    for number in range(5):
        run_theirs(pair.theirs, ["put", f"from/{number}", str(number)])
    words = ["make-mirror", "--prefix=from/", "--dest-prefix=to/", pair.ours]
    process = subprocess.Popen(
        [TERCETCTL, f"--endpoints={pair.theirs}", *words], env=clean_environment({}), stderr=subprocess.PIPE
    )
    try:
        wait_until(lambda: len(run_theirs(pair.ours, ["get", "to/", "--prefix"]).out.split()) == 10, "the copy", seconds=20)
        run_theirs(pair.theirs, ["put", "from/new", "6"])
        run_theirs(pair.theirs, ["del", "from/0"])
        wait_until(lambda: run_theirs(pair.ours, ["get", "to/0"]).out == b"", "the deletion", seconds=20)
        assert run_theirs(pair.ours, ["get", "to/new"]).out == b"to/new\n6\n"
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate(timeout=scaled(10))
        for endpoint in (pair.theirs, pair.ours):
            run_theirs(endpoint, ["del", "", "--prefix"])


def test_check_perf_judges_a_short_load_and_deletes_its_keys(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "_SECONDS", 1)
    monkeypatch.setitem(check._PERF, "s", check._Load(20, 3))
    began = time.monotonic()
    outcome = run_ours(pair.ours, ["check", "perf"])
    assert time.monotonic() - began >= 0.9  # the last of 20 requests a second is sent 50 ms before the end
    verdicts = outcome.out.decode().splitlines()
    assert verdicts[-1] in ("PASS", "FAIL")
    assert (outcome.code == 0) == (verdicts[-1] == "PASS")
    assert any("Throughput" in line for line in verdicts)
    assert run_theirs(pair.ours, ["get", "/etcdctl-check-perf/", "--prefix"]).out == b""


def test_check_refuses_a_prefix_that_has_keys(pair: Pair) -> None:
    run_theirs(pair.ours, ["put", "/etcdctl-check-perf/x", "1"])
    run_theirs(pair.theirs, ["put", "/etcdctl-check-perf/x", "1"])
    theirs, ours = run_theirs(pair.theirs, ["check", "perf"]), run_ours(pair.ours, ["check", "perf"])
    assert (ours.error, ours.code) == (theirs.error.replace("etcdctl del", "etcdctl del"), theirs.code)
    assert ours.code == 3
    for endpoint in (pair.theirs, pair.ours):
        run_theirs(endpoint, ["del", "/etcdctl-check-perf/x"])


def test_check_datascale_measures_the_servers_memory(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(check._SCALE, "s", check._Load(50, 3))
    outcome = run_ours(pair.ours, ["check", "datascale", "--auto-compact"])
    assert outcome.code == 0, outcome.err
    lines = outcome.out.decode().splitlines()
    assert lines[0].startswith(
        "Start data scale check for work load [50 key-value pairs, 1024 bytes per key-value, 3 concurrent"
    )
    assert lines[-1].startswith("PASS: Approximate system memory used : ")
