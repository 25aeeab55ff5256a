"""The life of a tercet cluster, from environment.sh to destroy; the tests run in order."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest
import yaml

from tests.hosts.network import HOSTS
from tests.hosts.observations import (
    certificate_addresses,
    command_lines,
    down_times,
    files,
    private_key_lines,
    wait_until,
)
from tests.hosts.session import ENVIRONMENT_SH, Operator
from tests.hosts.writer import writing
from tests.support.waiting import scaled

pytestmark = pytest.mark.timeout(180, func_only=True)

FIRST_APPLY_SECONDS_MAX = scaled(150)  # about 20 on an idle machine; the limit bounds a failure
NO_CHANGE_SECONDS_MAX = scaled(60)  # about 2 on an idle machine
PAUSE_SECONDS_MAX = scaled(30)  # about 1 on an idle machine


def test_init_writes_a_cluster_file_from_environment_sh(operator: Operator) -> None:
    operator.write("environment.sh", ENVIRONMENT_SH)
    operator.deploy("init", "--from", "environment.sh")
    settings = yaml.safe_load((operator.directory / "cluster.yaml").read_text())
    assert {host["name"]: host["address"] for host in settings["hosts"]} == HOSTS
    before = (operator.directory / "cluster.yaml").read_bytes()
    operator.deploy("init", exit_code=1)
    assert (operator.directory / "cluster.yaml").read_bytes() == before
    operator.set("ssh", {"connect_timeout": 3})


def test_plan_shows_the_changes_and_makes_none(operator: Operator) -> None:
    before = {host: files(operator, host) for host in HOSTS}
    result = operator.deploy("plan")
    for host in HOSTS:
        assert host in result
    assert "/etc/systemd/system/etcd.service" in result
    assert "+ExecStart=" in result.output.replace("+ ", "+")
    assert "PRIVATE KEY" not in result
    assert {host: files(operator, host) for host in HOSTS} == before


def test_apply_makes_three_healthy_members(operator: Operator) -> None:
    with command_lines() as seen:
        result = operator.deploy("apply", "--yes")
    assert result.seconds < FIRST_APPLY_SECONDS_MAX
    assert len(operator.healthy_lines()) == 3
    assert "PRIVATE KEY" not in result
    secrets = private_key_lines(operator.directory)
    assert secrets
    assert not [line for line in seen if any(secret in line for secret in secrets)]


def test_a_second_apply_changes_nothing(operator: Operator) -> None:
    before = {host: (files(operator, host), operator.unit(host)["InvocationID"]) for host in HOSTS}
    result = operator.deploy("apply", "--yes")
    assert result.seconds < NO_CHANGE_SECONDS_MAX
    assert {host: (files(operator, host), operator.unit(host)["InvocationID"]) for host in HOSTS} == before
    assert "nothing to do" in operator.deploy("plan").output.lower()


def test_the_unit_has_the_expected_properties(operator: Operator) -> None:
    for host in HOSTS:
        unit = operator.unit(host)
        assert unit["UnitFileState"] == "enabled"
        assert (unit["Type"], unit["User"], unit["Restart"]) == ("notify", "etcd", "on-failure")
        assert unit["RestartUSec"] == "5s"
        assert unit["LimitNOFILE"] == "65536"
        assert "network-online.target" in unit["After"].split()


def test_every_host_has_its_own_certificate_and_ca_keys_stay_local(operator: Operator) -> None:
    authority_keys = list((operator.directory / "pki").rglob("*ca-key.pem"))
    assert {key.name for key in authority_keys} == {"ca-key.pem", "peer-ca-key.pem"}
    assert {key.stat().st_mode & 0o777 for key in authority_keys} == {0o600}
    secrets = [key.read_text().splitlines()[1] for key in authority_keys]
    assert (operator.directory / "pki").stat().st_mode & 0o777 == 0o700
    keys: dict[str, set[str]] = {}
    for host, address in HOSTS.items():
        search = "grep -rlFf - /etc /opt /root /home /tmp /run /var"
        assert operator.machine(host).inside(search, stdin="\n".join(secrets)).stdout == ""
        owned = operator.on(host, "find /etc/etcd/cert -name '*key*.pem' -printf '%m %u %p\\n'").splitlines()
        assert owned
        assert all(line.startswith("600 etcd ") for line in owned), owned
        keys[host] = set(operator.on(host, "cat /etc/etcd/cert/*key*.pem | sha256sum").split())
        for pem in operator.on(host, "ls /etc/etcd/cert/*.pem | grep -v -e key -e ca.pem").splitlines():
            addresses = certificate_addresses(operator.machine(host).root / pem.lstrip("/"))
            assert address in addresses, pem
            assert not addresses & (set(HOSTS.values()) - {address}), pem
    assert not set.intersection(*keys.values()) - {"-"}


def test_every_listener_uses_tls(operator: Operator) -> None:
    for host, address in HOSTS.items():
        for place in (f"{address}:2379", "127.0.0.1:2379", f"{address}:2380"):
            probe = f"import urllib.request; print(urllib.request.urlopen('http://{place}/health', timeout=2).status)"
            assert operator.on(host, f'python3 -c "{probe}" 2>&1 || true') != "200", place


def test_a_client_without_a_certificate_is_rejected(operator: Operator) -> None:
    env = operator.client_environment()
    anonymous = {name: value for name, value in env.items() if name not in ("ETCDCTL_CERT", "ETCDCTL_KEY")}
    operator.etcdctl("--dial-timeout=2s", "--command-timeout=3s", "put", "anonymous", "1", exit_code=1, env=anonymous)


def test_status_and_health_agree_with_etcdctl(operator: Operator) -> None:
    health = operator.deploy("health")
    assert len([line for line in health.lines if "is healthy: successfully committed proposal: took = " in line]) == 3
    status = operator.deploy("status")
    for host in HOSTS:
        [line] = [line for line in status.lines if host in line]
        assert "active" in line
    [member] = {status["header"]["cluster_id"] for status in operator.statuses().values()}
    assert member


def test_env_for_one_member_and_for_all(operator: Operator) -> None:
    one = operator.deploy("env", "kube-node2")
    assert "https://172.27.129.111:2379" in one
    assert "172.27.129.105" not in one
    assert len(operator.client_environment()["ETCDCTL_ENDPOINTS"].split(",")) == 3


def test_logs_of_one_member_and_of_all(operator: Operator) -> None:
    every = operator.deploy("logs")
    for host in HOSTS:
        assert host in every
    one = operator.deploy("logs", "kube-node1")
    assert "kube-node1" in one
    assert "kube-node2" not in {line.split()[0] for line in one.lines if line}


def test_ssh_runs_a_command_on_a_host(operator: Operator) -> None:
    assert "kube-node3" in operator.deploy("ssh", "kube-node3", "--", "hostname")


def test_a_changed_flag_is_applied_to_one_member_at_a_time_leader_last(operator: Operator) -> None:
    operator.set("flags", {"heartbeat-interval": "150"})
    plan = operator.deploy("plan")
    added = [line for line in plan.lines if "--heartbeat-interval" in line and "+" in line.split("--heartbeat")[0]]
    assert added
    env = operator.client_environment()
    leader = operator.leader(env)
    with writing(operator, env) as written:
        operator.deploy("apply", "--yes")
    windows = down_times(operator)
    assert [host for host, _, _ in windows][-1] == leader
    assert all(up < down for (_, _, up), (_, down, _) in itertools.pairwise(windows)), windows
    assert len(operator.healthy_lines(env)) == 3
    assert not written.lost(operator, env)
    assert written.longest_gap_seconds < PAUSE_SECONDS_MAX
    for host in HOSTS:
        assert "--heartbeat-interval" in operator.on(host, "tr '\\0' ' ' </proc/$(systemctl show -P MainPID etcd)/cmdline")


def test_a_rolling_restart_loses_no_acknowledged_write(operator: Operator) -> None:
    env = operator.client_environment()
    leader = operator.leader(env)
    before = {host: operator.unit(host)["InvocationID"] for host in HOSTS}
    with writing(operator, env) as written:
        operator.deploy("restart")
    assert all(operator.unit(host)["InvocationID"] != before[host] for host in HOSTS)
    windows = down_times(operator)
    assert windows[-1][0] == leader
    assert all(up < down for (_, _, up), (_, down, _) in itertools.pairwise(windows)), windows
    assert not written.lost(operator, env)
    assert written.longest_gap_seconds < PAUSE_SECONDS_MAX


def test_a_power_failure_of_the_leader_loses_no_acknowledged_write(operator: Operator) -> None:
    env = operator.client_environment()
    victim = operator.leader(env)
    with writing(operator, env) as written:
        operator.lab.kill(victim)
        time.sleep(5)
        health = operator.deploy("health", exit_code=1)
        assert len([line for line in health.lines if "is healthy" in line]) == 2
        assert HOSTS[victim] in health
        operator.deploy("status", exit_code=None)
        operator.lab.boot(victim)
        wait_until(lambda: len(operator.healthy_lines(env)) == 3, seconds=120)
    assert not written.lost(operator, env)
    assert written.longest_gap_seconds < PAUSE_SECONDS_MAX
    operator.deploy("health")


def test_with_one_member_down_no_other_is_restarted(operator: Operator) -> None:
    operator.set("flags", {"heartbeat-interval": "160"})
    env = operator.client_environment()
    operator.on("kube-node2", "systemctl stop etcd")
    before = {host: operator.unit(host)["InvocationID"] for host in ("kube-node1", "kube-node3")}
    result = operator.deploy("restart", exit_code=1)
    assert "kube-node2" in result
    assert {host: operator.unit(host)["InvocationID"] for host in before} == before
    operator.deploy("apply", "--yes")  # starts the stopped member first
    assert len(operator.healthy_lines(env)) == 3


def test_destroy_asks_for_confirmation_and_leaves_nothing(operator: Operator) -> None:
    operator.deploy("destroy", stdin="no\n", exit_code=1)
    assert len(operator.healthy_lines()) == 3
    operator.deploy("destroy", "--yes")
    for host in HOSTS:
        assert operator.unit(host)["LoadState"] == "not-found"
        left = operator.on(host, "ls -d /etc/systemd/system/etcd* /var/lib/etcd /etc/etcd/cert /opt/tercet 2>/dev/null || true")
        assert left == ""
        assert operator.on(host, "pgrep -u etcd || true") == ""


def test_no_private_key_is_in_the_output_or_the_journals(operator: Operator) -> None:
    secrets = private_key_lines(operator.directory)
    assert not [secret for secret in secrets if secret in operator.transcript]
    for host in HOSTS:
        journal = Path(operator.machine(host).root, "var/log/journal")
        assert not [path for path in journal.rglob("*.journal") for secret in secrets if secret.encode() in path.read_bytes()]
