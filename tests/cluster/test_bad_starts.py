"""Failed starts: one log line names the cause, and the exit code is etcd's."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest

from tests.cluster.conftest import Planned
from tests.server.certificates import Authority
from tests.support.processes import BIN, ETCD, QUICK, TERCET, Cluster, free_port


def refused(cluster: Cluster, *flags: str, code: int = 1) -> str:
    """Start n1 with these flags; it must exit. Returns the line with the reason."""
    member = cluster["n1"].start(*flags)
    assert member.wait_exit() == code
    said = member.said()
    assert "Traceback" not in said, said
    assert not (member.data / "member" / "wal").exists()
    return member.reason() if code == 1 else said


def test_unknown_flags(plan: Planned) -> None:
    cluster = plan(["n1"])
    assert "-no-such-flag" in refused(cluster, "--no-such-flag=1", code=2)


@pytest.mark.parametrize(
    ("flag", "named"),
    [
        ("--initial-cluster=other=http://127.0.0.1:1", "n1"),
        ("--listen-client-urls=http//127.0.0.1:1", "http//127.0.0.1:1"),
        ("--listen-client-urls=https://127.0.0.1:1", "--cert-file"),
        ("--election-timeout=50", "election-timeout"),
        ("--auto-compaction-retention=often", "often"),
        ("--config-file=/nonexistent.yaml", "/nonexistent.yaml"),
    ],
)
def test_invalid_values(plan: Planned, flag: str, named: str) -> None:
    cluster = plan(["n1"])
    member = cluster["n1"].start(flag)
    assert member.wait_exit() in (1, 2)
    said = member.said()
    assert "Traceback" not in said, said
    assert named in said


def test_ports_in_use(plan: Planned) -> None:
    for kind in ("client", "peer"):
        cluster = plan(["n1"], directory=kind)
        port = cluster["n1"].client_port if kind == "client" else cluster["n1"].peer_port
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", port))
            taken.listen()
            reason = refused(cluster)
        assert f"127.0.0.1:{port}" in reason
        assert "address already in use" in reason
        cluster.start()  # starts once the port is free


def test_invalid_certificates(plan: Planned, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    one, other = authority.sign("one", "n1", "127.0.0.1"), authority.sign("other", "n1", "127.0.0.1")
    garbage = tmp_path / "garbage.crt"
    garbage.write_text("not a certificate")
    cases = {
        (one.cert, other.key): one.cert,
        ("/nonexistent.crt", one.key): "/nonexistent.crt",
        (str(garbage), one.key): str(garbage),
    }
    for number, ((cert, key), named) in enumerate(cases.items()):
        cluster = plan(["n1"], directory=f"client{number}")
        member = cluster["n1"]
        member.flags = [flag.replace("client-urls=http:", "client-urls=https:") for flag in member.flags]
        assert named in refused(cluster, f"--cert-file={cert}", f"--key-file={key}")
    cluster = plan(["n1"], directory="authority")
    member = cluster["n1"]
    member.flags = [
        flag.replace("peer-urls=http:", "peer-urls=https:").replace("n1=http:", "n1=https:") for flag in member.flags
    ]
    pair = (f"--peer-cert-file={one.cert}", f"--peer-key-file={one.key}")
    assert str(garbage) in refused(cluster, *pair, f"--peer-trusted-ca-file={garbage}")


def test_invalid_data_directories(plan: Planned, tmp_path: Path) -> None:
    cluster = plan(["n1"], QUICK)
    file = tmp_path / "file"
    file.write_text("")
    member = cluster["n1"].start(f"--data-dir={file / 'data'}")
    assert member.wait_exit() == 1
    assert str(file) in member.reason()
    # The data directory of a real etcd.
    real = plan(["n1"], directory="real", programs={"n1": ETCD}).start()["n1"]
    real.client.put(b"a", b"1")
    real.stop()
    before = sorted(path.name for path in real.data.rglob("*"))
    real.program = TERCET
    real.start()
    assert real.wait_exit() == 1
    assert str(real.data) in real.reason()
    assert sorted(path.name for path in real.data.rglob("*")) == before
    real.program = ETCD
    assert real.restart().client.get(b"a") == b"1"


def test_a_damaged_log_is_rejected_with_its_file_and_offset(plan: Planned) -> None:
    member = plan(["n1"], QUICK).start()["n1"]
    for number in range(20):
        member.client.put(b"a", b"%d" % number + bytes(5000))
    member.stop()
    segment = min((member.data / "member" / "wal").iterdir())
    sound = segment.read_bytes()
    at = 50_000
    segment.write_bytes(sound[:at] + bytes([sound[at] ^ 0xFF]) + sound[at + 1 :])
    member.start()
    assert member.wait_exit() == 1
    assert str(segment) in member.reason()
    assert "offset" in member.reason()
    segment.write_bytes(sound)
    assert member.restart().client.get(b"a") == b"19" + bytes(5000)


def test_a_unit_file_for_etcd_starts_a_member(plan: Planned, tmp_path: Path) -> None:
    """A member starts from environment variables alone, and from a configuration file."""
    member = plan(["n1"], QUICK)["n1"]
    named = dict(flag.removeprefix("--").split("=", 1) for flag in member.flags)
    assert shutil.which("tercet", path=str(BIN))
    member.flags = []
    member.variables = {"ETCD_" + name.upper().replace("-", "_"): value for name, value in named.items()}
    member.restart()
    member.client.put(b"a", b"1")
    member.stop()
    file = tmp_path / "etcd.conf.yaml"
    numbers = ("heartbeat-interval", "election-timeout")
    file.write_text(json.dumps({name: int(value) if name in numbers else value for name, value in named.items()}))
    member.variables = {}
    member.restart(f"--config-file={file}")
    assert member.client.get(b"a") == b"1"
    member.stop()
    member.variables = {"ETCD_NAME": "n1"}
    member.start("--name=n1")
    assert member.wait_exit() == 1
    assert "conflicting environment variable" in member.said()
    assert free_port() != member.client_port
