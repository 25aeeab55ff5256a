"""What servers leave: to a parent what is the parent's, after a fork, and nothing of one that could not be made."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

import tercet
from tercet.embed.threaded import ThreadedServer
from tercet.errors import ConfigError
from tercet.testing import Cluster
from tercet.testing.process_cluster import ProcessCluster
from tests.support.waiting import scaled, wait_until

PROGRAM = textwrap.dedent("""
    import os, signal, sys
    import tercet

    with (
        tercet.Server.start_in_thread() as server,
        tercet.Cluster(size=1, tls=True) as cluster,
        tercet.ServerProcess() as process,
    ):
        pid = os.fork()
        if pid == 0:
            signal.alarm(int(sys.argv[1]))
            try:
                server.metrics()
            except RuntimeError as error:
                print(error, flush=True)
            sys.exit(3)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        for each in (server, process):
            with tercet.Client(each.endpoints, timeout=int(sys.argv[1])) as client:
                client.put("a", "1")
        with cluster.client() as client:
            client.put("a", "1")
        print(process.directory.exists(), cluster.certificates.directory.exists())
    print(process.directory.exists(), cluster.certificates.directory.exists())
""")


@pytest.mark.server_process
def test_a_child_leaves_the_servers_of_its_parent_alone() -> None:
    seconds = scaled(60)
    ran = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM, str(int(seconds))],
        capture_output=True,
        text=True,
        timeout=4 * seconds,
        check=False,
    )
    assert (ran.stdout.splitlines(), ran.stderr) == (
        ["default runs in the parent process only", "3", "True True", "False False"],
        "",
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: tercet.ServerProcess(config={"quota": 1}),
        lambda: ThreadedServer(config={"quota": 1}),
        lambda: tercet.Cluster(size=2, config={"quota": 1}),
        lambda: Cluster(size=1, tls=True, config={"quota": 1}),
        lambda: ProcessCluster(2, {"quota": 1}),
    ],
)
def test_a_server_that_cannot_be_made_leaves_nothing(
    make: Callable[[], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ConfigError, match="unknown setting 'quota'"):
        make()
    # Not ==: a connection of an earlier test may end meanwhile.
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before, "no descriptor is left")
    assert not list(tmp_path.iterdir())
