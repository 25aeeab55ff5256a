"""Options of `tercet deploy`: shared ones, passwords, files that are missing, init, and the pages of help."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.fake_deployment import FILE, PLAN, FakeDeployment, enter_directory, run


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter_directory(tmp_path, monkeypatch)


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
