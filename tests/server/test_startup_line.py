"""The line "starting an etcd server", and others of a member's life: every field that etcd's have."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.newer import needs_newer_etcd, newer_etcd
from tests.support.ports import free_port
from tests.support.processes import TERCET, environment
from tests.support.waiting import scaled, wait_until

pytestmark = pytest.mark.server_process
FLAGS = ("--snapshot-catchup-entries=1234", "--auto-compaction-retention=2", "--feature-gates=CompactHashCheck=true")


def line_of(program: tuple[str, ...], directory: Path) -> dict[str, object]:
    return lines_of(program, directory, *FLAGS, until="starting an etcd server")["starting an etcd server"]


def lines_of(program: tuple[str, ...], directory: Path, *flags: str, until: str) -> dict[str, dict[str, object]]:
    """The lines of a member by message, the last of each. It is stopped once it has said `until`."""
    directory.mkdir()
    client, peer = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *program,
                f"--data-dir={directory / 'data'}",
                f"--listen-client-urls={client}",
                f"--advertise-client-urls={client}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=default={peer}",
                *flags,
            ],
            stdout=output,
            stderr=output,
            env=environment({}, None),
        )
    try:
        wait_until(lambda: f'"{until}"' in log.read_text(), f"the member says {until}", seconds=60)
        process.terminate()
        process.wait(scaled(30))
    finally:
        process.kill()
        process.wait()
    lines = (json.loads(line) for line in log.read_text().splitlines())
    return {line["msg"]: line for line in lines}


@needs_newer_etcd
def test_the_line_has_etcds_fields(tmp_path: Path) -> None:
    ours, etcds = line_of(TERCET, tmp_path / "ours"), line_of(newer_etcd(), tmp_path / "etcd")
    assert etcds.keys() - ours.keys() == {"max-wals", "max-snapshots"}  # flags without effect
    own = {"ts", "caller", "git-sha", "go-version", "data-dir", "member-dir", "listen-peer-urls", "initial-cluster"}
    own |= {"initial-advertise-peer-urls", "advertise-client-urls", "listen-client-urls", "etcd-version"}
    different = {name for name in etcds.keys() & ours.keys() if ours[name] != etcds[name]} - own
    assert different == set(), {name: (ours[name], etcds[name]) for name in different}


@needs_newer_etcd
def test_other_lines_have_etcds_fields(tmp_path: Path) -> None:
    flags = ["--quota-backend-bytes=9000000000", "--max-request-bytes=20000000", "--bcrypt-cost=3"]
    flags += ["--auto-compaction-retention=1s", f"--listen-metrics-urls=http://127.0.0.1:{free_port()}"]
    last = "completed auto periodic compaction"
    ours = lines_of(TERCET, tmp_path / "ours", *flags, until=last)
    etcds = lines_of(newer_etcd(), tmp_path / "etcd", *flags, until=last)
    varies = {"ts", "caller", "cluster-id", "local-member-id", "address", "took", "data-dir", "publish-timeout"}
    varies |= {
        "advertise-peer-urls",
        "advertise-client-urls",
        "local-member-attributes",
        "listen-peer-urls",
        "listen-client-urls",
    }
    varies |= {"initial-advertise-peer-urls", "listen-metrics-urls"}
    for message in (
        "quota exceeds the maximum value",
        "enabled backend quota",
        "exceeded recommended request limit",
        "use default bcrypt cost instead of the invalid given cost",
        "published local member to cluster through raft",
        "serving client traffic insecurely; this is strongly discouraged!",
        "serving metrics",
        "Initialize and start etcd server",
        "configuring peer listeners",
        "configuring client listeners",
        "starting local member",
        "now serving peer/client/metrics",
        "stopped serving peer traffic",
        "starting auto periodic compaction",
        last,
        "received signal; shutting down",
        "closing etcd server",
        "closed etcd server",
    ):
        assert ours[message].keys() == etcds[message].keys(), message
        same = ours[message].keys() - varies
        assert {name: ours[message][name] for name in same} == {name: etcds[message][name] for name in same}, message


def test_a_log_that_does_not_open_is_reported_in_a_line() -> None:
    line = [*TERCET, "--log-outputs=/nonexistent/log"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=scaled(60), env=environment({}, None), check=False)
    last = json.loads(done.stderr.splitlines()[-1])
    assert (done.returncode, last["msg"]) == (1, "failed to verify flags")
    assert last["error"] == 'open sink "/nonexistent/log": open /nonexistent/log: no such file or directory'
