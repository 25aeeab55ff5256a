"""`tercet up` as a process, from the first start to Ctrl-C: with a stub, with tercet, and with the real etcd."""

from __future__ import annotations

import json
import os
import pty
import re
import resource
import select
import shlex
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tercet.bench.local_cluster import Member, Plan
from tercet.cli.up.command import next_steps
from tercet.cli.up.env_file import write_env_file
from tercet.cli.up.plan import Choice, Shape, default_client_ports, load_or_create_shape, make_plan
from tercet.errors import ConfigError
from tests.cli.etcd_pair import clean_environment
from tests.support.etcd import binary
from tests.support.ports import free_port, free_ports
from tests.support.waiting import scaled, wait_until

ROOT = Path(__file__).parents[2]
UP_SECONDS = 60


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
    impatience = threading.Timer(scaled(UP_SECONDS), process.send_signal, [signal.SIGABRT])
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
    wait_until(lambda: not any(is_alive(pid) for pid in pids), "the members are gone", seconds=seconds)


def shell(command: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run a command line in the environment of DIR/env.sh, as a user types it."""
    return subprocess.run(
        ["sh", "-c", f". {shlex.quote(str(directory / 'env.sh'))}; {command}"],
        capture_output=True,
        text=True,
        env=clean_environment({"PATH": f"{Path(binary('etcdctl')).parent}:/usr/bin:/bin"}),
        timeout=scaled(30),
        check=False,
    )


def wait_healthy(directory: Path) -> None:
    wait_until(
        lambda: shell("etcdctl endpoint health", directory).returncode == 0, "every member is healthy", seconds=UP_SECONDS
    )


def test_a_cluster_of_tercet_from_start_to_restart(tmp_path: Path) -> None:
    data = tmp_path / "d"
    with up("--data-dir", data, *ports(3), program=None) as process:
        text = read_until(process, "Ctrl-C stops it.")
        members = children(process.pid)
        assert len(members) == 3
        assert [int((data / name / "pid").read_text()) for name in ("n1", "n2", "n3")] == members
        assert shell("tercetctl put greeting hello", data).stdout == "OK\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(scaled(UP_SECONDS)) == 0
        wait_gone(members)
    for port in json.loads((data / "cluster.json").read_text())["client_ports"]:
        pattern = rf"^https://127\.0\.0\.1:{port} is healthy: successfully committed proposal: took = [\d.]+(ms|µs|s)$"
        assert re.search(pattern, text, re.MULTILINE)
    assert not list(data.glob("*/pid"))

    certs = data / "certs"
    before = {path.name: path.read_bytes() for path in certs.iterdir()}
    with up("--data-dir", data, program=None) as process:  # the ports are in the record
        read_until(process, "Ctrl-C stops it.")
        assert shell("etcdctl get greeting", data).stdout == "greeting\nhello\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(scaled(UP_SECONDS)) == 0
    assert {path.name: path.read_bytes() for path in certs.iterdir()} == before
    assert (data / "n3" / "member.log").stat().st_size > 0


def test_the_printed_next_steps_work_as_they_stand(tmp_path: Path) -> None:
    with up("--data-dir", tmp_path / "a b", *ports(3), program=None) as process:
        text = read_until(process, "Ctrl-C stops it.")
        steps = [line.strip() for line in text.splitlines() if line.startswith("  ")]
        assert len(steps) == 5
        done = subprocess.run(
            ["bash", "-ec", "\n".join(steps)], capture_output=True, text=True, cwd=ROOT, timeout=scaled(30), check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("OK\ngreeting\nhello\n")
        assert shell("tercetctl get greeting --consistency=s", tmp_path / "a b").returncode == 0


def test_a_member_that_is_killed_is_reported_and_restarted_on_request(tmp_path: Path) -> None:
    restart = [sys.executable, "-m", "tercet", "up", "--restart", "--data-dir", str(tmp_path)]
    with up("--data-dir", tmp_path, *ports(3), program=stub("serve")) as process:
        read_until(process, "Ctrl-C stops it.")
        wait_healthy(tmp_path)
        members = children(process.pid)
        os.kill(members[1], signal.SIGKILL)
        assert process.stderr is not None
        assert process.stderr.readline() == f"n2 exited: killed by SIGKILL; log: {tmp_path}/n2/member.log\n"
        assert "2 of 3 members are running. To restart n2: tercet up --restart --data-dir" in process.stderr.readline()
        assert subprocess.run(restart, timeout=scaled(UP_SECONDS), check=False).returncode == 0
        read_until(process, "Restarted n2.")
        wait_healthy(tmp_path)
        assert len(children(process.pid)) == 3
        process.send_signal(signal.SIGINT)
        assert process.wait(scaled(UP_SECONDS)) == 0
        wait_gone(members)
    without = subprocess.run(restart, capture_output=True, text=True, timeout=scaled(UP_SECONDS), check=False)
    assert (without.returncode, without.stderr) == (1, f"Error: no `tercet up` is running on {tmp_path}\n")


def test_a_member_is_restarted_from_the_terminal(tmp_path: Path) -> None:
    """r and Enter, typed on a terminal."""
    words = ["up", "--data-dir", str(tmp_path), *ports(3), "--program", stub("serve")]
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(ROOT)
        os.execv(sys.executable, [sys.executable, "-m", "tercet", *words])
    try:
        shown = Shown(terminal)
        shown.wait_for("Ctrl-C stops it.")
        os.kill(int((tmp_path / "n2" / "pid").read_text()), signal.SIGKILL)
        shown.wait_for("Press r and Enter to restart n2")
        os.write(terminal, b"r\n")
        shown.wait_for("Restarted n2.")
        os.write(terminal, b"\x03")
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    finally:
        os.close(terminal)


def test_the_readme_shows_the_next_steps_word_for_word() -> None:
    member = Member("n1", 1, 2, Path(), Path())
    shown = next_steps(Plan((member, replace(member, name="n2"), replace(member, name="n3")), "token"), Path("tercet-data"))
    assert textwrap.indent(shown, "    ") in (ROOT / "README.md").read_text(encoding="utf-8")


class Shown:
    """What a terminal shows."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self._text = ""

    def wait_for(self, text: str) -> None:
        while text not in self._text:
            ready, _, _ = select.select([self._terminal], [], [], scaled(UP_SECONDS))
            assert ready, f"{text!r} does not appear: {self._text}"
            try:
                self._text += os.read(self._terminal, 4096).decode("utf-8", "replace")
            except OSError:  # the process has exited
                raise AssertionError(f"{text!r} does not appear: {self._text}") from None


def test_it_ends_when_no_member_is_left(tmp_path: Path) -> None:
    with up("--data-dir", tmp_path, "--no-tls", *ports(1), program=stub("serve")) as process:
        read_until(process, "Ctrl-C stops it.")
        os.kill(children(process.pid)[0], signal.SIGKILL)
        _, err = process.communicate(timeout=scaled(UP_SECONDS))
    assert process.returncode == 1
    assert "0 of 1 members are running, fewer than a quorum" in err


def test_it_stops_when_the_reader_of_its_output_goes_away(tmp_path: Path) -> None:
    with up("--data-dir", tmp_path, "--no-tls", *ports(3), program=stub("serve")) as process:
        read_until(process, " is healthy")
        members = children(process.pid)
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(scaled(UP_SECONDS)) == 0
        wait_gone(members)
        assert process.stderr is not None
        assert process.stderr.read() == ""
        process.stdout = None


def test_a_second_one_on_the_same_directory_is_refused(tmp_path: Path) -> None:
    words = ["--data-dir", tmp_path, "--no-tls", *ports(1)]
    with up(*words, program=stub("serve")) as first:
        read_until(first, "Ctrl-C stops it.")
        with up(*words, program=stub("serve")) as second:
            _, err = second.communicate(timeout=scaled(UP_SECONDS))
        assert f"Error: `tercet up` is already running on {tmp_path} (pid {first.pid})" in err


def test_a_member_that_exits_during_the_start_ends_it_with_the_last_log_lines(tmp_path: Path) -> None:
    with up("--data-dir", tmp_path, "--no-tls", *ports(3), program=stub("crash")) as process:
        out, err = process.communicate(timeout=scaled(UP_SECONDS))
    assert process.returncode == 1
    assert "Ctrl-C" not in out
    assert "Error: n2 exited: exit code 3; log: " in err
    assert "The last lines of its log:\n  n2 cannot go on: the disk is full" in err


def test_members_that_do_not_become_healthy_in_time(tmp_path: Path) -> None:
    words = ["--data-dir", tmp_path, "--no-tls", "--timeout", "1", *ports(1)]
    with up(*words, program=stub("deaf")) as process:
        _, err = process.communicate(timeout=scaled(UP_SECONDS))
    assert process.returncode == 1
    assert "Error: n1 is not healthy: context deadline exceeded; log: " in err


def test_a_second_interrupt_kills_the_members(tmp_path: Path) -> None:
    with up("--data-dir", tmp_path, "--no-tls", *ports(1), program=stub("stubborn")) as process:
        read_until(process, "Ctrl-C stops it.")
        members = children(process.pid)
        process.send_signal(signal.SIGINT)
        log = tmp_path / "n1" / "member.log"
        wait_until(lambda: "SIGTERM ignored" in log.read_text(), "the member was asked to stop")
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.wait(scaled(5))
        wait_gone(members)


def test_members_do_not_outlive_it(tmp_path: Path) -> None:
    with up("--data-dir", tmp_path, "--no-tls", *ports(1), program=stub("serve")) as process:
        read_until(process, "Ctrl-C stops it.")
        members = children(process.pid)
        process.kill()
        wait_gone(members)


def test_ports_in_use_are_reported_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = ["--data-dir", tmp_path, f"--client-port={port}", f"--peer-port={free_port()}"]
        with up(*words, program=stub("serve")) as process:
            _, err = process.communicate(timeout=scaled(UP_SECONDS))
    assert process.returncode == 1
    assert f"Error: in use on 127.0.0.1: {port} (n1). Choose other ports with --base-port" in err
    assert not (tmp_path / "n1" / "data").exists()


def test_a_real_etcd_with_mutual_tls(tmp_path: Path) -> None:
    """etcd accepts the certificates, etcdctl the environment; a client without a certificate is refused."""
    with up("--data-dir", tmp_path, *ports(1), program=binary("etcd")) as process:
        read_until(process, "Ctrl-C stops it.")
        put = shell("etcdctl put greeting hello", tmp_path)
        assert (put.stdout, put.returncode) == ("OK\n", 0), put.stderr
        anonymous = "unset ETCDCTL_CERT ETCDCTL_KEY; etcdctl get greeting --command-timeout=300ms"
        assert shell(anonymous, tmp_path).returncode == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(scaled(UP_SECONDS)) == 0


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    def no_space() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    words = [sys.executable, "-m", "tercet", "up", "--data-dir", str(tmp_path / "data")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, preexec_fn=no_space)
    assert (done.returncode, done.stderr) == (1, f"Error: {tmp_path}/data/up.lock: File too large\n")


def test_the_environment_file_without_tls(tmp_path: Path) -> None:
    """It drops certificates that the shell has from another cluster."""
    plan = make_plan(tmp_path, Shape((1, 3), (2, 4), False, "token"))
    write_env_file(tmp_path / "env.sh", plan, programs=tmp_path)
    shown = shell('echo "$ETCDCTL_ENDPOINTS $ETCDCTL_CACERT"', tmp_path)
    assert shown.stdout == "http://127.0.0.1:1,http://127.0.0.1:3 \n"
    assert "PATH" not in (tmp_path / "env.sh").read_text()


class TestPlan:
    def test_default_client_ports(self) -> None:
        assert default_client_ports(4) == [2379, 22379, 32379, 42379]

    @pytest.mark.parametrize(
        ("choice", "clients", "peers"),
        [
            (Choice(), (2379, 22379, 32379), (2380, 22380, 32380)),
            (Choice(members=1), (2379,), (2380,)),
            (Choice(base_port=4000), (4000, 4010, 4020), (4001, 4011, 4021)),
            (Choice(client_ports=[5, 7]), (5, 7), (6, 8)),
            (Choice(client_ports=[5], peer_ports=[9]), (5,), (9,)),
        ],
    )
    def test_ports(self, tmp_path: Path, choice: Choice, clients: Sequence[int], peers: Sequence[int]) -> None:
        shape = load_or_create_shape(tmp_path, choice)
        assert (shape.client_ports, shape.peer_ports, shape.tls) == (clients, peers, True)
        assert load_or_create_shape(tmp_path, Choice()) == shape
        assert load_or_create_shape(tmp_path, choice) == shape

    @pytest.mark.parametrize(
        ("choice", "text"),
        [
            (Choice(members=2, client_ports=[5]), "2 members need 2 ports, but --client-port gives 1"),
            (Choice(client_ports=[5, 7], peer_ports=[9]), "2 members need 2 ports, but --peer-port gives 1"),
            (Choice(base_port=65530), "port 65551 is above 65535"),
            (Choice(members=7), "port 72380 is above 65535"),
            (Choice(client_ports=[5, 6]), "duplicate port"),
        ],
    )
    def test_contradictory_flags_are_refused(self, tmp_path: Path, choice: Choice, text: str) -> None:
        with pytest.raises(ConfigError, match=text):
            load_or_create_shape(tmp_path, choice)
        assert not (tmp_path / "cluster.json").exists()

    @pytest.mark.parametrize(
        ("choice", "flag"),
        [(Choice(members=5), "--members"), (Choice(tls=False), "--tls/--no-tls"), (Choice(base_port=4000), "--base-port")],
    )
    def test_flags_that_contradict_the_record_are_refused(self, tmp_path: Path, choice: Choice, flag: str) -> None:
        load_or_create_shape(tmp_path, Choice())
        with pytest.raises(ConfigError, match=f"already holds a cluster of 3 members with TLS .*drop {flag}"):
            load_or_create_shape(tmp_path, choice)

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "Expecting value"),
            ("[]", "not a JSON object"),
            ("{}", "client_ports is missing"),
            ('{"client_ports": "x"}', "invalid literal"),
            ('{"client_ports": [1], "peer_ports": [], "tls": 1, "token": ""}', "client_ports and peer_ports differ in length"),
        ],
    )
    def test_a_damaged_record_is_refused(self, tmp_path: Path, text: str, reason: str) -> None:
        (tmp_path / "cluster.json").write_text(text)
        with pytest.raises(ConfigError, match=rf"cannot read .*cluster\.json: {reason}"):
            load_or_create_shape(tmp_path, Choice())

    def test_peers_show_certificates_of_their_own_authority(self, tmp_path: Path) -> None:
        plan = make_plan(tmp_path, Shape((1, 3), (2, 4), True, "token"))
        flags = plan.flags(plan.members[0])
        assert f"--peer-trusted-ca-file={tmp_path}/certs/peer-ca.crt" in flags
        assert f"--trusted-ca-file={tmp_path}/certs/ca.crt" in flags
        assert "--initial-cluster=n1=https://127.0.0.1:2,n2=https://127.0.0.1:4" in flags
        assert {"--client-cert-auth", "--peer-client-cert-auth"} <= set(flags)
