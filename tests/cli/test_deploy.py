"""The commands of `tercet deploy`: what they print and their exit codes, with a fake Deployment."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tercet.cli.deploy.view import status_remarks
from tercet.deploy.deployment import DeployError, MemberHealth
from tercet.deploy.facts.preflight import Finding
from tercet.deploy.plan.plan import Phase, Plan, Step
from tercet.deploy.run.events import Event
from tercet.deploy.ssh.host_error import HostError
from tests.cli.fake_deployment import FILE, HEALTHY, PLAN, UNIT, FakeDeployment, enter_directory, run, status_of, step


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter_directory(tmp_path, monkeypatch)


# Plan and apply.


def test_the_exit_code_of_a_plan_shows_whether_there_are_changes() -> None:
    assert run(FakeDeployment(), "plan", "--detailed-exitcode").exit_code == 2
    assert run(FakeDeployment(found=Plan()), "plan", "--detailed-exitcode").exit_code == 0
    assert run(FakeDeployment(), "plan").exit_code == 0


def test_plan_shows_phases_hosts_steps_and_diffs() -> None:
    done = run(FakeDeployment(), "plan")
    assert done.exit_code == 0
    assert done.stdout == (
        "files    2 steps on 2 hosts\n"
        "restart  2 steps on 2 hosts, one at a time\n"
        "\n"
        "files\n"
        "  kube-node1\n"
        f"    write {UNIT}\n"
        f"      +++ {UNIT}\n"
        "      +ExecStart=/opt/tercet\n"
        "  kube-node2\n"
        "    enable\n"
        "\n"
        "restart  one at a time\n"
        "  kube-node2  restart\n"
        "  kube-node1  restart\n"
        "\n"
        "Warning: http://127.0.0.1:2379 is served without TLS\n"
        "4 steps on 2 hosts. Run `tercet deploy apply` to make these changes.\n"
    )


def test_an_empty_plan() -> None:
    done = run(FakeDeployment(found=Plan()), "plan")
    assert done.stdout == "Nothing to do: the hosts match the cluster file.\n"
    assert run(FakeDeployment(found=Plan()), "apply", "--yes").stdout == done.stdout


def test_a_plan_as_json() -> None:
    plan = json.loads(run(FakeDeployment(), "plan", "-w", "json").stdout)
    assert [phase["title"] for phase in plan["phases"]] == ["files", "restart"]
    assert plan["phases"][0]["steps"][0]["diff"].endswith("+ExecStart=/opt/tercet")


def test_apply_prints_one_line_per_step_without_a_terminal() -> None:
    done = run(FakeDeployment(), "apply", "--yes")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert f"kube-node1  write {UNIT}  done" in lines
    assert "kube-node2  restart  done (quickly)" in lines
    assert lines[-2].startswith("Applied: 4 steps on 2 hosts in ")
    assert lines[-1].startswith("Next: `tercet deploy health`")
    assert "Warning: http://127.0.0.1:2379 is served without TLS" in lines


def test_apply_without_a_terminal_requires_yes_before_any_work() -> None:
    fake = FakeDeployment()
    for name in ("apply", "destroy"):
        done = run(fake, name)
        assert (done.exit_code, done.stdout, fake.calls) == (1, "", [])
        assert done.stderr == "Error: no terminal to confirm on; pass --yes to proceed without confirmation\n"


def test_a_plan_with_blockers_fails() -> None:
    blocked = replace(PLAN, blockers=("kube-node3: systemd: etcd.service is masked; unmask it",))
    done = run(FakeDeployment(blocked), "plan")
    assert done.exit_code == 1
    assert done.stdout.endswith("would stop at these errors:\nError: kube-node3: systemd: etcd.service is masked; unmask it\n")


def test_every_failure_is_printed_with_its_journal() -> None:
    failures = [
        HostError("kube-node1", "start", "failed:\nthe cellar is flooded"),
        HostError("kube-node3", "connect", "timed out"),
    ]
    done = run(FakeDeployment(error=DeployError(failures)), "apply", "--yes")
    assert done.exit_code == 1
    assert done.stderr == ("Error: kube-node1: start: failed:\nthe cellar is flooded\nError: kube-node3: connect: timed out\n")


def test_an_interrupted_apply_says_how_to_continue() -> None:
    class Interrupted(FakeDeployment):
        async def _done(self, *call: object) -> None:
            os.kill(os.getpid(), 2)
            await asyncio.sleep(10)

    done = run(Interrupted(), "apply", "--yes")
    assert done.exit_code == 1
    assert done.stderr == "Error: interrupted; rerun the command to continue, completed steps are skipped\n"


# Read-only commands.


def test_health_has_etcdctls_output_and_exit_codes() -> None:
    done = run(FakeDeployment(), "health")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[0] == ("https://10.0.0.1:2379 is healthy: successfully committed proposal: took = 2.1ms")
    ill = [*HEALTHY[:2], MemberHealth("kube-node3", "https://10.0.0.3:2379", False, 3, "context deadline exceeded")]
    done = run(FakeDeployment(members=ill), "health")
    assert done.exit_code == 1
    assert done.stdout.count("is healthy") == 2
    assert done.stderr == (
        "https://10.0.0.3:2379 is unhealthy: failed to commit proposal: context deadline exceeded\nError: unhealthy cluster\n"
    )
    assert [member["health"] for member in json.loads(run(FakeDeployment(members=ill), "health", "-w", "json").stdout)] == [
        True,
        True,
        False,
    ]


def test_status_has_a_row_per_member_and_certificate_warnings() -> None:
    statuses = [
        status_of("kube-node1"),
        status_of("kube-node2", certificate_days=12.3, is_leader=False),
        status_of("kube-node3", member_id=0, unit="failed/failed", error="nobody answers", certificate_days=-1.5),
    ]
    done = run(FakeDeployment(statuses=statuses), "status")
    assert done.exit_code == 1
    rows = {
        cells[1].strip(): [cell.strip() for cell in cells]
        for line in done.stdout.splitlines()
        if len(cells := line.split("│")) > 1
    }
    assert rows["kube-node1"][2:12] == [
        "active/running",
        "ab",
        "3.7.1",
        "20 kB",
        "25 %",
        "true",
        "false",
        "2",
        "17",
        "364 days",
    ]
    assert rows["kube-node3"][2] == "failed/failed"
    assert done.stderr.splitlines() == [
        "Warning: kube-node3: nobody answers",
        "Warning: kube-node2: the certificate expires in 12 days; `tercet deploy certs renew --due` renews it",
        "Warning: kube-node3: the certificate expired 1 day ago; `tercet deploy certs renew --due` renews it",
    ]
    simple = run(FakeDeployment(statuses=statuses), "status", "-w", "simple")
    assert simple.stdout.splitlines()[0] == "kube-node1, active/running, ab, 3.7.1, 20 kB, 25 %, true, false, 2, 17, 364 days"
    assert json.loads(run(FakeDeployment(statuses=statuses[:1]), "status", "-w", "json").stdout)[0]["member_id"] == 0xAB
    assert run(FakeDeployment(statuses=statuses[:2]), "status").exit_code == 0


def test_apply_prints_json_for_programs() -> None:
    class Stepping(FakeDeployment):
        async def apply(self, confirm: Any = None) -> Plan:
            self.on_event(Event("kube-node1", "start", "waiting"))
            self.on_event(Event("kube-node1", "start", "done", "ready in 0.9 s"))
            return PLAN

    done = run(Stepping(), "apply", "--yes", "--json")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"host": "kube-node1", "step": "start", "state": "done", "detail": "ready in 0.9 s"},
        {"steps": 4, "notes": list(PLAN.notes)},
    ]
    assert run(Stepping(), "apply", "--json").exit_code == 2


def test_status_shows_when_the_operators_certificate_expires() -> None:
    assert status_remarks([status_of("a")], 30, operator_days=2.5) == [
        "operator: the certificate expires in 2 days; `tercet deploy certs renew --due` renews it"
    ]
    assert status_remarks([status_of("a", alarms=("NOSPACE",))], 30, operator_days=31)[0].startswith("a: alarm NOSPACE: ")


def test_status_announces_a_renewal_only_when_apply_renews() -> None:
    Path("cluster.yaml").write_text(FILE + "tls: {days: 30}\n")
    statuses = [status_of("kube-node1", certificate_days=10.1), status_of("kube-node2", certificate_days=9.9)]
    done = run(FakeDeployment(statuses=statuses), "status")
    assert (
        done.stderr == "Warning: kube-node2: the certificate expires in 9 days; `tercet deploy certs renew --due` renews it\n"
    )


def test_preflight_shows_all_findings_and_fails_only_on_errors() -> None:
    findings = [
        Finding("kube-node1", "ports", "ok", "2379, 2380 free"),
        Finding("kube-node1", "fdatasync", "warning", "takes 90 ms", "use a faster disk"),
    ]
    done = run(FakeDeployment(findings=findings), "preflight")
    assert done.exit_code == 0
    assert done.stdout == (
        "kube-node1  ports      ok       2379, 2380 free\n"
        "kube-node1  fdatasync  warning  takes 90 ms\n"
        "                                -> use a faster disk\n"
        "2 checks: 0 errors, 1 warning.\n"
    )
    bad = Finding("kube-node2", "ports", "error", "2379 is in use by squatter.service", "stop it")
    assert run(FakeDeployment(findings=[*findings, bad]), "preflight").exit_code == 1
    assert (
        json.loads(run(FakeDeployment(findings=findings), "preflight", "-w", "json").stdout)[1]["remedy"] == "use a faster disk"
    )


def test_restart_and_destroy() -> None:
    fake = FakeDeployment()
    assert run(fake, "restart", "kube-node2").exit_code == 0
    destroyed = run(fake, "destroy", "--yes", "--keep-data").stdout.splitlines()
    assert destroyed[-2] == "Destroyed etcd-cluster."
    assert destroyed[-1].startswith("Next: `tercet deploy apply` deploys it again")
    assert fake.calls == [("restart", ("kube-node2",)), ("destroy", True)]


def test_destroy_can_be_limited_to_hosts() -> None:
    done = run(FakeDeployment(), "destroy", "--yes", "--limit", "kube-node3")
    assert "Destroyed etcd-cluster on kube-node3." in done.stdout.splitlines()
    assert run(FakeDeployment(), "destroy", "--yes", "--limit", "kube-node9").exit_code == 2


def test_certificates_can_be_renewed_while_a_host_is_dead() -> None:
    fake, limit = FakeDeployment(), ("--limit", "kube-node1", "--limit", "kube-node3")
    assert run(fake, "certs", "renew", "--due", "--yes", *limit).exit_code == 0
    assert run(fake, "certs", "rotate", "--yes", *limit).exit_code == 0
    names = ("kube-node1", "kube-node3")
    assert fake.calls == [("renew", "due", "all", False, names), ("renew", "all", "all", False, names)]
    refused = run(fake, "certs", "rotate", "--ca", "--yes", *limit)
    assert (refused.exit_code, "a CA is rotated on all hosts" in refused.stderr) == (2, True)


def test_identical_hosts_are_shown_once() -> None:
    """Equal apart from names, addresses, fingerprints and the moment of the backups; a host that differs is shown in full."""

    def steps(name: str, address: str) -> list[Step]:
        digest = hashlib.sha256(name.encode()).hexdigest()[:16].upper()
        return [
            step(name, f"write {UNIT}", f"+--name={name} --listen=https://{address}:2380 --turn={len(digest) * int(name[-1])}"),
            step(name, "write /etc/etcd/cert/peer.pem", f"new peer certificate of {name}; SHA-256 {digest}; names {name}"),
        ]

    nodes = {"kube-node1": "172.27.129.105", "kube-node2": "172.27.129.111", "kube-node3": "172.27.129.112"}
    plan = Plan((Phase("prepare", tuple(one for name, address in nodes.items() for one in steps(name, address))),))
    lines = run(FakeDeployment(found=plan), "plan").stdout.splitlines()
    first = hashlib.sha256(b"kube-node1").hexdigest()[:16].upper()
    assert lines[:7] == [
        "prepare",
        "  kube-node1",
        f"    write {UNIT}",
        "      +--name=kube-node1 --listen=https://172.27.129.105:2380 --turn=16",
        "    write /etc/etcd/cert/peer.pem",
        f"      new peer certificate of kube-node1; SHA-256 {first}; names kube-node1",
        "  kube-node2, kube-node3  the same 2 steps, with their own names and addresses",
    ]
    other = Plan((Phase("prepare", (*plan.phases[0].steps, step("kube-node2", "create user etcd"))),))
    shown = run(FakeDeployment(found=other), "plan").stdout
    assert "kube-node3  the same 2 steps" in shown
    assert "create user etcd" in shown


def test_hosts_that_pass_the_same_checks_are_shown_once() -> None:
    findings = [Finding(f"kube-node{n}", "disk", "ok", f"{n} GiB free") for n in (1, 2, 3)]
    assert run(FakeDeployment(findings=findings), "preflight").stdout == (
        "kube-node1  disk  ok       1 GiB free\nkube-node2, kube-node3: the same 1 check passed\n3 checks passed.\n"
    )
    full = Finding("kube-node2", "disk", "error", "nothing free", "free space")
    shown = run(FakeDeployment(findings=[findings[0], full, findings[2]]), "preflight").stdout
    assert "kube-node2  disk  error    nothing free" in shown
    assert "kube-node3: the same 1 check passed" in shown


def test_a_restart_without_a_majority_is_a_warning() -> None:
    assert "Note:" not in run(FakeDeployment(), "restart").stdout
    Path("cluster.yaml").write_text(FILE.replace("  - {name: kube-node3, address: 172.27.129.112}\n", ""))
    assert run(FakeDeployment(), "restart", "kube-node1").stdout == (
        "Warning: a cluster of two members has no majority during a restart: writes fail and linearizable reads wait\n"
        "Restarted kube-node1.\n"
        "Next: `tercet deploy health`\n"
    )


def test_destroy_without_a_terminal_requires_yes() -> None:
    fake = FakeDeployment()
    done = run(fake, "destroy", stdin="no\n")
    assert (done.exit_code, fake.calls) == (1, [])
    assert "--yes" in done.stderr


def test_a_key_file_that_is_not_text_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "demo.db").touch()
    (tmp_path / "binary").write_bytes(bytes(range(128, 256)))
    done = run(FakeDeployment(), "restore", str(tmp_path / "demo.db"), "--identity", str(tmp_path / "binary"), "--yes")
    assert (done.exit_code, done.stderr) == (1, "Error: no AGE-SECRET-KEY-1... in this file\n")
