"""The line "starting an etcd server": every field that etcd's has."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.newer import needs_newer_etcd, newer_etcd
from tests.support.ports import free_port
from tests.support.processes import TERCET, environment
from tests.support.waiting import wait_until

pytestmark = pytest.mark.server_process
FLAGS = ("--snapshot-catchup-entries=1234", "--auto-compaction-retention=2", "--feature-gates=CompactHashCheck=true")


def line_of(program: tuple[str, ...], directory: Path) -> dict[str, object]:
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
                *FLAGS,
            ],
            stdout=output,
            stderr=output,
            env=environment({}, None),
        )
    try:
        return json.loads(
            wait_until(
                lambda: next((line for line in log.read_text().splitlines() if '"starting an etcd server"' in line), ""),
                "the member says how it starts",
                seconds=60,
            )
        )
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()


@needs_newer_etcd
def test_the_line_has_etcds_fields(tmp_path: Path) -> None:
    ours, etcds = line_of(TERCET, tmp_path / "ours"), line_of(newer_etcd(), tmp_path / "etcd")
    assert etcds.keys() - ours.keys() == {"max-wals", "max-snapshots"}  # flags without effect
    own = {"ts", "caller", "git-sha", "go-version", "data-dir", "member-dir", "listen-peer-urls", "initial-cluster"}
    own |= {"initial-advertise-peer-urls", "advertise-client-urls", "listen-client-urls", "etcd-version"}
    different = {name for name in etcds.keys() & ours.keys() if ours[name] != etcds[name]} - own
    assert different == set(), {name: (ours[name], etcds[name]) for name in different}
