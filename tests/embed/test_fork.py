"""A child process that leaves the blocks of its parent's servers ends, and leaves them to the parent."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from tests.support.waiting import scaled

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
        [sys.executable, "-c", PROGRAM, str(int(seconds))],
        capture_output=True,
        text=True,
        timeout=4 * seconds,
        check=False,
    )
    assert (ran.stdout.splitlines(), ran.stderr) == (
        ["default runs in the parent process only", "3", "True True", "False False"],
        "",
    )
