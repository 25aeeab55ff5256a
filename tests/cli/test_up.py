"""`tercet up`, from the first start to Ctrl-C: as a process, with a stand-in for the members and once with the real etcd."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tercet.cli.up_plan import Shape, Wish, habitual_ports, make_plan, settle
from tercet.errors import ConfigError
from tests.cli.etcd_pair import clean_environment, run_ours, run_theirs
from tests.support.etcd import binary
from tests.support.ports import free_ports

ROOT = Path(__file__).parents[2]
UP_SECONDS = 15


def stub(mode: str) -> str:
    return shlex.join([sys.executable, "-m", "tests.cli.stub_member", mode])


def ports(members: int) -> list[str]:
    free = free_ports(2 * members)
    return [f"--client-port={port}" for port in free[:members]] + [f"--peer-port={port}" for port in free[members:]]


@contextmanager
def up(*words: str | Path, program: str | None) -> Iterator[subprocess.Popen[str]]:
    """`tercet up` as a child; killed at the end if it is still there."""
    chosen = ["--program", program] if program else []
    process = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-m", "tercet.cli.tercet", "up", *chosen, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=clean_environment({"ETCD_NAME": "from-the-shell"}),
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """What it prints up to the line with `text`."""
    assert process.stdout is not None
    assert process.stderr is not None
    lines: list[str] = []
    # Ends the reading below, and has the child say where it was.
    impatience = threading.Timer(UP_SECONDS, process.send_signal, [signal.SIGABRT])
    impatience.start()
    try:
        for line in process.stdout:
            lines.append(line)
            if text in line:
                return "".join(lines)
    finally:
        impatience.cancel()
    raise AssertionError("".join(lines) + process.stderr.read())


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_gone(pids: Sequence[int], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < deadline, "members were left behind"
        time.sleep(0.02)


def printed_words(text: str) -> list[str]:
    """The command line that is printed for copying, without the program and what it puts."""
    line = next(line for line in text.splitlines() if line.endswith(" put greeting hello"))
    return shlex.split(line)[1:-3]


def test_a_cluster_of_tercet_from_start_to_restart(tmp_path: Path) -> None:
    with up("--data-dir", tmp_path / "d", *ports(3), program=None) as process:
        text = read_until(process, "Ctrl-C stops it.")
        members = children(process.pid)
        assert len(members) == 3
        assert run_ours(None, [*printed_words(text), "put", "greeting", "hello"]).out == b"OK\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(UP_SECONDS) == 0
        wait_gone(members)
    for port in json.loads((tmp_path / "d" / "cluster.json").read_text())["client_ports"]:
        pattern = rf"^https://127\.0\.0\.1:{port} is healthy: successfully committed proposal: took = [\d.]+(ms|µs|s)$"
        assert re.search(pattern, text, re.MULTILINE)

    certs = tmp_path / "d" / "certs"
    before = {path.name: path.read_bytes() for path in certs.iterdir()}
    with up("--data-dir", tmp_path / "d", program=None) as process:  # the ports are remembered
        text = read_until(process, "Ctrl-C stops it.")
        assert run_theirs("", [*printed_words(text), "get", "greeting"]).out == b"greeting\nhello\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(UP_SECONDS) == 0
    assert {path.name: path.read_bytes() for path in certs.iterdir()} == before
    assert (tmp_path / "d" / "n3" / "member.log").stat().st_size > 0


def test_a_member_that_dies_is_named(tmp_path: Path) -> None:
    with up("--data-dir", tmp_path, *ports(3), program=stub("serve")) as process:
        read_until(process, "Ctrl-C stops it.")
        members = children(process.pid)
        os.kill(members[1], signal.SIGKILL)
        _, err = process.communicate(timeout=UP_SECONDS)
        assert process.returncode == 1
        assert f"Error: n2 ended: killed by SIGKILL; its log is {tmp_path}/n2/member.log" in err
        wait_gone(members)


def test_a_member_that_cannot_start_has_the_last_word(tmp_path: Path) -> None:
    with up("--data-dir", tmp_path, "--no-tls", *ports(3), program=stub("crash")) as process:
        out, err = process.communicate(timeout=UP_SECONDS)
    assert process.returncode == 1
    assert "Ctrl-C" not in out
    assert "Error: n2 ended: exit code 3; its log is" in err
    assert "Its last lines:\n  n2 cannot go on: the disk is full" in err


def test_members_that_do_not_become_healthy_in_time(tmp_path: Path) -> None:
    words = ["--data-dir", tmp_path, "--no-tls", "--timeout", "1", *ports(1)]
    with up(*words, program=stub("deaf")) as process:
        _, err = process.communicate(timeout=UP_SECONDS)
    assert process.returncode == 1
    assert "Error: n1 is not healthy: context deadline exceeded; its log is" in err


def test_interrupted_twice_it_does_not_wait(tmp_path: Path) -> None:
    with up("--data-dir", tmp_path, "--no-tls", *ports(1), program=stub("stubborn")) as process:
        read_until(process, "Ctrl-C stops it.")
        members = children(process.pid)
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.wait(5)
        wait_gone(members)


def test_members_do_not_outlive_it(tmp_path: Path) -> None:
    with up("--data-dir", tmp_path, "--no-tls", *ports(1), program=stub("serve")) as process:
        read_until(process, "Ctrl-C stops it.")
        members = children(process.pid)
        process.kill()
        wait_gone(members)


def test_ports_in_use_are_told_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        words = ["--data-dir", tmp_path, f"--client-port={port}", f"--peer-port={free_ports(1)[0]}"]
        with up(*words, program=stub("serve")) as process:
            _, err = process.communicate(timeout=UP_SECONDS)
    assert process.returncode == 1
    assert f"Error: in use on 127.0.0.1: {port} (n1). Is this cluster running already?" in err
    assert not (tmp_path / "n1" / "data").exists()


def test_a_real_etcd_with_mutual_tls(tmp_path: Path) -> None:
    """The certificates are such that etcd takes them, and etcdctl with the line that was printed."""
    with up("--data-dir", tmp_path, *ports(1), program=binary("etcd")) as process:
        words = printed_words(read_until(process, "Ctrl-C stops it."))
        put = run_theirs("", [*words, "put", "greeting", "hello"])
        assert (put.out, put.code) == (b"OK\n", 0), put.err
        without = [word for word in words if not word.startswith(("--cert", "--key"))]
        assert run_theirs("", [*without, "get", "greeting", "--command-timeout=300ms"]).code == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(UP_SECONDS) == 0


class TestPlan:
    def test_habitual_ports(self) -> None:
        assert habitual_ports(4) == [2379, 22379, 32379, 42379]

    @pytest.mark.parametrize(
        ("wish", "clients", "peers"),
        [
            (Wish(), (2379, 22379, 32379), (2380, 22380, 32380)),
            (Wish(members=1), (2379,), (2380,)),
            (Wish(base_port=4000), (4000, 4010, 4020), (4001, 4011, 4021)),
            (Wish(client_ports=[5, 7]), (5, 7), (6, 8)),
            (Wish(client_ports=[5], peer_ports=[9]), (5,), (9,)),
        ],
    )
    def test_ports(self, tmp_path: Path, wish: Wish, clients: Sequence[int], peers: Sequence[int]) -> None:
        shape = settle(tmp_path, wish)
        assert (shape.client_ports, shape.peer_ports, shape.tls) == (clients, peers, True)
        assert settle(tmp_path, Wish()) == shape
        assert settle(tmp_path, wish) == shape

    @pytest.mark.parametrize(
        ("wish", "text"),
        [
            (Wish(members=2, client_ports=[5]), "2 members need 2 ports; --client-port gives 1"),
            (Wish(client_ports=[5, 7], peer_ports=[9]), "2 members need 2 ports; --peer-port gives 1"),
            (Wish(base_port=65530), "port 65551 is above 65535"),
            (Wish(members=7), "port 72380 is above 65535"),
            (Wish(client_ports=[5, 6]), "the same port twice"),
        ],
    )
    def test_impossible_wishes(self, tmp_path: Path, wish: Wish, text: str) -> None:
        with pytest.raises(ConfigError, match=text):
            settle(tmp_path, wish)
        assert not (tmp_path / "cluster.json").exists()

    @pytest.mark.parametrize(
        ("wish", "flag"),
        [(Wish(members=5), "--members"), (Wish(tls=False), "--tls/--no-tls"), (Wish(base_port=4000), "--base-port")],
    )
    def test_a_directory_keeps_its_shape(self, tmp_path: Path, wish: Wish, flag: str) -> None:
        settle(tmp_path, Wish())
        with pytest.raises(ConfigError, match=f"holds a cluster of 3 with TLS .*start it without {flag}"):
            settle(tmp_path, wish)

    @pytest.mark.parametrize(
        "text", ["", "[]", "{}", '{"client_ports": "x"}', '{"client_ports": [1], "peer_ports": [], "tls": 1, "token": ""}']
    )
    def test_a_damaged_record_is_refused(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "cluster.json").write_text(text)
        with pytest.raises(ConfigError, match=r"cannot read .*cluster\.json"):
            settle(tmp_path, Wish())

    def test_peers_show_certificates_of_their_own_authority(self, tmp_path: Path) -> None:
        plan = make_plan(tmp_path, Shape((1, 3), (2, 4), True, "token"))
        flags = plan.flags(plan.members[0])
        assert f"--peer-trusted-ca-file={tmp_path}/certs/peer-ca.crt" in flags
        assert f"--trusted-ca-file={tmp_path}/certs/ca.crt" in flags
        assert "--initial-cluster=n1=https://127.0.0.1:2,n2=https://127.0.0.1:4" in flags
        assert {"--client-cert-auth", "--peer-client-cert-auth"} <= set(flags)
