"""The command line of `tercet deploy`: options, output, exit codes, with a fake Deployment."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from tercet.cli.deploy.command import command
from tercet.cli.deploy.options import Options
from tercet.cli.deploy.view import status_remarks
from tercet.deploy.deployment import DeployError, MemberHealth, MemberStatus
from tercet.deploy.facts.preflight import Finding
from tercet.deploy.plan.plan import Phase, Plan, Progress, Step
from tercet.deploy.run.events import Event
from tercet.deploy.ssh.host_error import HostError

FILE = """\
name: etcd-cluster
hosts:
  - {name: kube-node1, address: 172.27.129.105}
  - {name: kube-node2, address: 172.27.129.111, ssh: {port: 2222, host: second}}
  - {name: kube-node3, address: 172.27.129.112}
ssh: {user: ops, key: id_deploy, jump: admin@gateway, known_hosts: hosts}
"""
UNIT = "/etc/systemd/system/etcd.service"


async def nothing(progress: Progress) -> str:
    return ""


def step(host: str | None, title: str, diff: str = "") -> Step:
    return Step(host, title, nothing, diff)


PLAN = Plan(
    (
        Phase(
            "files", (step("kube-node1", f"write {UNIT}", f"+++ {UNIT}\n+ExecStart=/opt/tercet"), step("kube-node2", "enable"))
        ),
        Phase("restart", (step("kube-node2", "restart"), step("kube-node1", "restart")), one_at_a_time=True),
    ),
    notes=("http://127.0.0.1:2379 is served without TLS",),
)
HEALTHY = [MemberHealth(f"kube-node{number}", f"https://10.0.0.{number}:2379", True, 0.0021) for number in (1, 2, 3)]


@dataclass
class FakeDeployment:
    """A fake Deployment with canned results; `calls` records the method calls."""

    found: Plan = PLAN
    error: Exception | None = None
    findings: list[Finding] = field(default_factory=list)
    members: list[MemberHealth] = field(default_factory=lambda: HEALTHY)
    statuses: list[MemberStatus] = field(default_factory=list)
    calls: list[object] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    password: str | None = None

    def __call__(self, cluster: Any, **options: Any) -> Any:
        self.options = {"file": cluster.path.name, "accept_new": options["accept_new"]}
        self.limit = options["limit"]
        self.on_event = options["on_event"]
        self.ask = options["ask_password"]
        return self

    async def _done(self, *call: object) -> None:
        self.calls.append(call)
        if self.ask is not None:
            self.password = await self.ask("kube-node1: sudo password for ops: ")
        if self.error is not None:
            raise self.error

    async def preflight(self) -> list[Finding]:
        await self._done("preflight")
        return self.findings

    async def plan(self) -> Plan:
        await self._done("plan")
        return self.found

    async def apply(self, confirm: Callable[[Plan], Awaitable[bool]]) -> Plan:
        if not self.found.is_empty and not await confirm(self.found):
            raise HostError("nowhere", "confirm", "declined")
        for one in self.found.steps:
            self.on_event(Event(one.host, one.title, "waiting"))
            self.on_event(Event(one.host, one.title, "running", done=1, total=2))
            if self.error is None:
                self.on_event(Event(one.host, one.title, "done", "quickly" if one.title == "restart" else ""))
        await self._done("apply")
        return self.found

    async def renew_certificates(
        self, *, renewal: str, until: str, dry_run: bool, confirm: Callable[[Plan], Awaitable[bool]]
    ) -> Plan:
        await self._done("renew", renewal, until, dry_run, self.limit)
        return self.found

    async def restart(self, names: Collection[str] = ()) -> None:
        await self._done("restart", tuple(names))

    async def destroy(self, *, keep_data: bool, confirm: Callable[[Plan], Awaitable[bool]]) -> Plan:
        await confirm(self.found)
        await self._done("destroy", keep_data)
        return self.found

    async def status(self) -> list[MemberStatus]:
        await self._done("status")
        return self.statuses

    async def health(self) -> list[MemberHealth]:
        await self._done("health")
        return self.members

    async def logs(self, names: Collection[str], *, follow: bool, lines: int) -> AsyncIterator[tuple[str, str]]:
        await self._done("logs", tuple(names), follow, lines)
        for name in names:
            yield name, "a line"


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TERCET_SUDO_PASSWORD", raising=False)
    Path("cluster.yaml").write_text(FILE)


def run(fake: FakeDeployment, *words: str, stdin: str = "", environment: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(
        command, list(words), obj=Options(make=fake), input=stdin, env=environment, prog_name="tercet deploy"
    )


def status_of(name: str, **more: Any) -> MemberStatus:
    known: dict[str, Any] = {
        "address": "10.0.0.1",
        "unit": "active/running",
        "error": "",
        "member_id": 0xAB,
        "version": "3.7.1",
        "db_size": 20_480,
        "is_leader": True,
        "is_learner": False,
        "raft_term": 2,
        "raft_index": 17,
        "certificate_days": 364.9,
        "quota": 81_920,
    }
    return MemberStatus(name=name, **(known | more))


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


# Arguments and files.


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["plna"], "did you mean plan?"),
        (["frobnicate"], "available: init, preflight, plan, apply"),
        (["ssh", "kube-node"], "did you mean kube-node"),
        (["logs", "xyz"], "hosts: kube-node1, kube-node2, kube-node3"),
        (["restart", "kube-node9"], "kube-node"),
        (["env", "nobody"], "hosts: kube-node1"),
        (["plan", "--accept-now"], "--accept-new"),
        (["init", "kube-node1"], "NAME=ADDRESS"),
        (["init", "a=1.2.3.4", "--from", "x"], "NAME=ADDRESS and --from cannot be combined"),
        (["plan", "--sudo-password-file", "missing"], "missing"),
    ],
)
def test_usage_errors_are_exit_code_2_with_a_hint(words: list[str], hint: str) -> None:
    fake = FakeDeployment()
    done = run(fake, *words)
    assert done.exit_code == 2
    assert hint in done.stderr
    assert not fake.calls


@pytest.mark.parametrize(
    "words",
    [
        ["-f", "other.yaml", "plan"],
        ["plan", "-f", "other.yaml"],
        ["--file", "other.yaml", "logs", "-f"],
        ["logs", "--file", "other.yaml"],
    ],
)
def test_shared_options_are_accepted_before_and_after_the_command(words: list[str]) -> None:
    Path("cluster.yaml").rename("other.yaml")
    fake = FakeDeployment()
    assert run(fake, *words).exit_code == 0
    assert fake.options["file"] == "other.yaml"


def test_f_after_logs_is_follow() -> None:
    fake = FakeDeployment()
    done = run(fake, "logs", "-f", "-n", "3", "kube-node2")
    assert fake.calls == [("logs", ("kube-node2",), True, 3)]
    assert done.stdout == "kube-node2  a line\n"


def test_logs_of_all_members_do_not_require_every_host() -> None:
    fake = FakeDeployment()
    run(fake, "logs")
    assert fake.calls == [("logs", (), False, 20)]


def test_an_invalid_or_missing_cluster_file_is_an_error_before_connecting() -> None:
    Path("cluster.yaml").write_text(FILE.replace("kube-node2", "kube-node1"))
    fake = FakeDeployment()
    done = run(fake, "plan")
    assert (done.exit_code, fake.calls) == (1, [])
    assert "cluster.yaml:4: hosts[1].name" in done.stderr
    Path("cluster.yaml").unlink()
    done = run(fake, "plan")
    assert done.exit_code == 1
    assert "tercet deploy init" in done.stderr


def test_warnings_of_the_file_go_to_stderr() -> None:
    Path("cluster.yaml").write_text(FILE.replace("  - {name: kube-node3, address: 172.27.129.112}\n", ""))
    done = run(FakeDeployment(), "restart")
    assert done.exit_code == 0
    assert "Warning: " in done.stderr
    assert "2 members" in done.stderr


@pytest.mark.parametrize("words", [("plan",), ("apply", "--yes")])
def test_warnings_in_the_notes_of_a_plan_are_printed_once(words: tuple[str, ...]) -> None:
    Path("cluster.yaml").write_text(FILE + "listen: {plain_loopback: true}\n")

    class Planning(FakeDeployment):
        def __call__(self, cluster: Any, **options: Any) -> Any:
            self.found = replace(PLAN, notes=cluster.warnings)
            return super().__call__(cluster, **options)

    done = run(Planning(), *words)
    assert [line for line in done.output.splitlines() if "plain_loopback" in line] == [
        "Warning: cluster.yaml:7: listen.plain_loopback: http://127.0.0.1:2379 requires no certificate: every user "
        "and process on the host, and anyone with a tunnel to it, has full access"
    ]


@pytest.mark.parametrize("where", ["before", "after"])
def test_accept_new_is_passed_on(where: str) -> None:
    fake = FakeDeployment()
    run(fake, *(["--accept-new", "plan"] if where == "before" else ["plan", "--accept-new"]))
    assert fake.options["accept_new"] is True


# Passwords.


def test_sources_of_the_sudo_password(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("pass word\nmore\n")
    for words, stdin, environment in (
        (["--sudo-password-file", "secret"], "", None),
        (["--sudo-password-file", "-"], "pass word\n", None),
        ([], "", {"TERCET_SUDO_PASSWORD": "pass word"}),
    ):
        fake = FakeDeployment()
        done = run(fake, "plan", *words, stdin=stdin, environment=environment)
        assert fake.password == "pass word"
        assert "pass word" not in done.output


def test_without_a_terminal_there_is_no_password_prompt() -> None:
    fake = FakeDeployment()
    assert run(fake, "plan").exit_code == 0
    assert fake.ask is None


# Hosts.


def test_env_is_safe_to_eval() -> None:
    Path("cluster.yaml").write_text(f"{FILE}tls: {{directory: /it's here}}\n")
    done = run(FakeDeployment(), "env", "kube-node2")
    shown = subprocess.run(
        ["sh", "-c", f'{done.stdout}\nprintf "%s|%s" "$ETCDCTL_KEY" "$ETCDCTL_ENDPOINTS"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == "/it's here/client-key.pem|https://172.27.129.111:2379"
    assert all(line.startswith("export ") for line in done.stdout.splitlines())


def ssh_line(monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[Sequence[str], dict[str, str]]:
    seen: list[tuple[Sequence[str], dict[str, str]]] = []
    monkeypatch.setattr(os, "execvpe", lambda program, line, environment: seen.append((line, environment)))
    monkeypatch.setenv("TERCET_SUDO_PASSWORD", "secret")
    assert run(FakeDeployment(), "ssh", *words).exit_code == 0
    [found] = seen
    return found


def test_ssh_runs_with_the_settings_of_the_cluster_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    line, environment = ssh_line(monkeypatch, "kube-node2", "--accept-new", "--", "ls", "-l")
    expected = f"ssh -l ops -p 2222 -i {tmp_path}/id_deploy -J admin@gateway -o UserKnownHostsFile={tmp_path}/hosts"
    assert " ".join(line) == f"{expected} -o StrictHostKeyChecking=accept-new second ls -l"
    assert "TERCET_SUDO_PASSWORD" not in environment


def test_ssh_without_a_command_opens_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    line, _ = ssh_line(monkeypatch, "kube-node1")
    assert line[-1] == "172.27.129.105"


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


# init.


def test_init_writes_a_valid_file_and_does_not_overwrite() -> None:
    Path("cluster.yaml").unlink()
    done = run(FakeDeployment(), "init", "a=10.0.0.1", "b=10.0.0.2", "c=10.0.0.3")
    assert done.exit_code == 0
    assert done.stdout.startswith("Wrote cluster.yaml: 3 members.\n")
    text = Path("cluster.yaml").read_text()
    assert [host["name"] for host in yaml.safe_load(text)["hosts"]] == ["a", "b", "c"]
    again = run(FakeDeployment(), "init", "d=10.0.0.4")
    assert again.exit_code == 1
    assert "--force" in again.stderr
    assert Path("cluster.yaml").read_text() == text
    assert run(FakeDeployment(), "init", "--force", "d=10.0.0.4").exit_code == 0
    assert "10.0.0.4" in Path("cluster.yaml").read_text()
    assert [path.name for path in Path().iterdir()] == ["cluster.yaml"]


def test_init_from_an_environment_sh() -> None:
    Path("cluster.yaml").unlink()
    Path("environment.sh").write_text("NODE_IPS=(10.0.0.1 10.0.0.2)\nNODE_NAMES=(a)\n")
    done = run(FakeDeployment(), "init", "--from", "environment.sh")
    assert done.exit_code == 1
    assert "environment.sh" in done.stderr
    assert not Path("cluster.yaml").exists()
    Path("environment.sh").write_text("NODE_IPS=(10.0.0.1)\nNODE_NAMES=(a)\n")
    assert run(FakeDeployment(), "-f", "new.yaml", "init", "--from", "environment.sh", "--engine", "etcd").exit_code == 0
    assert yaml.safe_load(Path("new.yaml").read_text())["engine"]["kind"] == "etcd"


def test_init_with_invalid_addresses() -> None:
    Path("cluster.yaml").unlink()
    done = run(FakeDeployment(), "init", "a=10.0.0.1", "b=10.0.0.1")
    assert done.exit_code == 2
    assert "10.0.0.1" in done.stderr
    assert not Path("cluster.yaml").exists()


def test_every_command_has_a_help_page() -> None:
    for name in ("init", "preflight", "plan", "apply", "status", "health", "logs", "restart", "destroy", "ssh", "env"):
        done = run(FakeDeployment(), name, "--help")
        assert done.exit_code == 0
        assert "--file" in done.stdout
    assert "environment.sh" in run(FakeDeployment(), "--help").stdout
