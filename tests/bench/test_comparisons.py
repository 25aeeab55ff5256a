"""The comparisons, with etcd on both sides and short runs: they print what was measured."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tercet.bench import compare, h2load, requests, scale
from tercet.bench.arena import Shape, System, Tls, etcd_system, free_ports, plan, running, tercet_system, with_log_tail
from tercet.bench.compare import Settings
from tercet.bench.load import Extent, LoadFailed
from tercet.bench.local_cluster import MemberExited
from tercet.bench.report import Rate, Rest, as_markdown, rest_rows, summarize
from tercet.bench.usage import usage_of
from tercet.bench.workloads import WORKLOADS
from tercet.errors import ConfigError
from tercet.rpc import UnaryCall
from tests.client.member import member, run
from tests.support.etcd import binary


def test_medians_and_ratios() -> None:
    baseline, ours = System("etcd 3", ()), System("tercet 0", ())
    work = WORKLOADS[:1]
    results = {
        work[0].name: {
            "etcd 3": [Rate(100.0, 0.004, 0.010), Rate(900.0, 0.001, 0.020), Rate(200.0, 0.002, 0.015)],
            "tercet 0": [
                Rate(600.0, 0.001, 0.002, (1e-4, 5e-5)),
                Rate(500.0, None, None, (3e-4, 7e-5)),
                Rate(1.0, 0.003, 0.004, (2e-4, 6e-5)),
            ],
        }
    }
    lines = summarize(results, work, baseline, ours)
    assert lines[0].ratio == 2.5
    assert as_markdown(lines, baseline, ours).splitlines() == [
        "| workload | etcd 3 | tercet 0 | ratio | aim | etcd, ms | tercet, ms | etcd, µs | tercet, µs |",
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: |",
        "| put, 1 in flight | 200/s | 500/s | 2.50 | 1.3 | 2.00 / 15.0 | 2.00 / 3.00 | - | 200 + 60 |",
    ]


def test_start_and_idle_cost_are_medians() -> None:
    rests = {
        "etcd": [Rest(1.0, 0.1, 0.02, 100.0)] * 3,
        "tercet": [Rest(0.5, 0.2, 0.01, 50.0), *[Rest(0.7, 0.3, 0.03, 70.0)] * 2],
    }
    assert rest_rows(rests, System("etcd", ()), System("tercet", ())) == [
        ["one member, start until healthy", "1.00 s", "0.70 s"],
        ["one member, processor time to start", "0.10 s", "0.30 s"],
        ["idle member of three, processor", "2.00 %", "3.00 %"],
        ["idle member of three, wake-ups", "100/s", "70/s"],
    ]


USING = """
import time
input()
deadline = time.process_time() + 0.05
while time.process_time() < deadline:
    pass
for _ in range(3):
    time.sleep(0.001)
print(flush=True)
input()
"""


def test_usage_counts_processor_time_and_wakeups() -> None:
    """Of a process of its own: threads of earlier tests end in this one, and their wake-ups are missed."""
    with subprocess.Popen([sys.executable, "-c", USING], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        before = usage_of(process.pid)
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.readline()
        used = usage_of(process.pid) - before
        process.kill()
    assert used.cpu_seconds >= 0.03
    assert used.wakeups >= 3
    with pytest.raises(OSError, match="No such file"):
        usage_of(2**22 + 1)  # above the kernel's largest pid


def test_each_shape_of_cluster_is_measured() -> None:
    rows = [(work.shape.members, work.shape.tls, work.in_flight) for work in WORKLOADS]
    plain = [(3, Tls.NONE, each) for each in (1, 32, 256, 256, 256, 256, 256, 256, 64, 256, 256)]
    assert rows[:13] == plain + [(3, Tls.CLIENTS, 256)] * 2
    assert rows[13:16] == [(3, Tls.EVERYWHERE, 256)] * 3
    for tls in (Tls.NONE, Tls.CLIENTS):
        assert [flight for members, kind, flight in rows if (members, kind) == (1, tls)] == [1, 4, 32, 256, 1, 256]
    assert min(work.aim for work in WORKLOADS) == 1.3
    assert [work.connections for work in WORKLOADS[:5]] == [1, 1, 4, 4, 4]


@pytest.mark.parametrize(
    "name", ["linearizable read, 256, TLS between peers too", "linearizable read, 256 in flight, logged in"]
)
def test_compare(tmp_path: Path, name: str) -> None:
    line = ["--quick", "--seconds", "0.3", "--only", name, "-w", "json"]
    line += ["--tercet-program", binary("etcd"), "--data-dir", str(tmp_path / "bench")]
    for _ in range(5):
        result = CliRunner().invoke(compare.command, line)
        assert result.exit_code == 0, result.output
        (found,) = json.loads(result.stdout)
        if found["baseline_per_second"] and found["per_second"]:  # else a member was paused for all of the time
            break
    assert found["workload"] == name
    assert found["baseline_per_second"] > 0
    assert found["per_second"] > 0
    assert len(found["cpu"]) == 2
    assert found["ratio"] == pytest.approx(found["per_second"] / found["baseline_per_second"], rel=0.01, abs=0.001)
    assert not list((tmp_path / "bench").iterdir())  # removed


@pytest.mark.skipif(shutil.which("h2load") is None, reason="h2load is not installed")
def test_h2load_measures_the_rate() -> None:
    async def test() -> None:
        bodies: set[bytes] = set()

        def answer(call: UnaryCall, message: bytes) -> None:
            bodies.add(message)
            call.reply(b"")

        async with member({requests.PUT_PATH: answer}) as up:
            url = f"http://{up.endpoint}{requests.PUT_PATH}"
            rate = await h2load.run(h2load.Shot(url, b"message", connections=2, streams=4, seconds=1, warmup=0))
            assert bodies == {b"message"}
            assert 0 < rate <= len(up.asked)
        with pytest.raises(LoadFailed, match="h2load failed"):
            await h2load.run(h2load.Shot(url, b"message", connections=1, streams=1, seconds=1, warmup=0))

    run(test())


def test_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "_SETTLE_SECONDS", 0.0)
    steps: list[tuple[str, float]] = []
    size = scale.Scale(keys=1050, value_size=100)
    try:
        cost = run(scale.measure(etcd_system(), size, tmp_path / "etcd", lambda *step: steps.append(step)))
    except scale.KeysLost as error:  # known of etcd 3.5.1: the reference is wrong, not the measurement
        pytest.skip(f"a fault of the reference, not of tercet: {error}")
    assert {step for step, _ in steps} == {"load", "settle", "range", "restart"}
    assert 5 << 20 < cost.leader_memory <= cost.memory_max < 1 << 30
    assert min(cost.load_seconds, cost.range_seconds, cost.restart_seconds) > 0
    assert not (tmp_path / "etcd").exists()


def test_a_larger_ratio_is_better() -> None:
    size = scale.Scale(keys=1_000_000, value_size=100)
    lines = scale.summarize(
        scale.Cost(10.0, 600 << 20, 700 << 20, 0.050, 8.0), scale.Cost(20.0, 300 << 20, 350 << 20, 0.025, 4.0), size
    )
    assert scale.as_markdown(lines, size, (System("etcd", ()), System("tercet", ()))).splitlines() == [
        "| 1,000,000 keys, 100-byte values | etcd | tercet | times better |",
        "| --- | --: | --: | --: |",
        "| resident memory, leader | 600.0 MiB | 300.0 MiB | 2.00 |",
        "| resident memory, largest member | 700.0 MiB | 350.0 MiB | 2.00 |",
        "| restart of all members until healthy | 8.0 s | 4.0 s | 2.00 |",
        "| range of 10,000 keys | 50.0 ms | 25.0 ms | 2.00 |",
        "| loading, 100 puts a transaction | 10.0 s | 20.0 s | 0.50 |",
    ]


def test_wrong_options_and_programs_are_reported() -> None:
    runner = CliRunner()
    assert (
        "no workload contains that; choose among: put, 1 in flight;" in runner.invoke(compare.command, ["--only", "x"]).stderr
    )
    assert "Did you mean one of: '--only', '--rounds'" in runner.invoke(compare.command, ["--round", "3"]).stderr
    failed = runner.invoke(compare.command, ["--etcd-program", "/nonexistent"])
    assert failed.exit_code == 1
    assert "cannot run /nonexistent" in failed.stderr


def test_a_member_that_dies_ends_the_comparison(tmp_path: Path) -> None:
    async def start() -> None:
        async with running(System("broken", ("sh", "-c", "echo no space left; exit 3")), tmp_path / "broken"):
            pass

    with pytest.raises(MemberExited, match=r"n\d exited: exit code 3; log:") as caught:
        run(start())
    assert with_log_tail(caught.value).endswith("Its last lines:\nno space left")
    assert caught.value.member.log.read_text() == "no space left\n"  # kept, as something failed


def test_members_have_distinct_ports_and_names(tmp_path: Path) -> None:
    made = plan(tmp_path, tercet_system(), Shape(tls=Tls.CLIENTS))
    assert len({port for member in made.members for port in (member.client_port, member.peer_port)}) == 6
    flags = made.flags(made.members[1])
    assert "--name=n2" in flags
    assert made.client_url(made.members[1]).startswith("https://")
    assert made.peer_url(made.members[1]).startswith("http://")
    assert not [flag for flag in flags if "client-cert-auth" in flag]
    everywhere = plan(tmp_path / "everywhere", tercet_system(), Shape(members=1, tls=Tls.EVERYWHERE))
    assert everywhere.peer_url(everywhere.members[0]).startswith("https://")
    assert len(set(free_ports(20))) == 20


def test_an_etcd_is_found_and_named() -> None:
    assert etcd_system().name == "etcd 3.5.1"
    assert Settings(1, Extent(seconds=1.0), Path("x")).generator == "tercet"
    with pytest.raises(ConfigError, match="cannot run"):
        etcd_system(["/nonexistent"])


def test_lost_keys_are_the_fault_of_the_system_that_lost_them() -> None:
    error = scale.KeysLost(System("etcd 3.5.1", ()), 950, 1050)
    assert str(error) == "etcd 3.5.1 has lost acknowledged keys: 950 of 1050 are there after the restart"
