"""From environment.sh to three healthy members of tercet, and what may happen to them then: one story, in order."""

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

pytestmark = pytest.mark.timeout(180)

FIRST_APPLY_SECONDS_MAX = 60
NO_CHANGE_SECONDS_MAX = 5
PAUSE_SECONDS_MAX = 10


def test_init_writes_a_cluster_file_from_environment_sh(operator: Operator) -> None:
    operator.write("environment.sh", ENVIRONMENT_SH)
    operator.deploy("init", "--from", "environment.sh")
    settings = yaml.safe_load((operator.directory / "cluster.yaml").read_text())
    assert {host["name"]: host["address"] for host in settings["hosts"]} == HOSTS
    before = (operator.directory / "cluster.yaml").read_bytes()
    operator.deploy("init", exit_code=1)
    assert (operator.directory / "cluster.yaml").read_bytes() == before
    operator.set("ssh", {"connect_timeout": 3})


def test_plan_shows_what_would_change_and_touches_nothing(operator: Operator) -> None:
    before = {host: files(operator, host) for host in HOSTS}
    said = operator.deploy("plan")
    for host in HOSTS:
        assert host in said
    assert "/etc/systemd/system/etcd.service" in said
    assert "+ExecStart=" in said.output.replace("+ ", "+")
    assert "PRIVATE KEY" not in said
    assert {host: files(operator, host) for host in HOSTS} == before


def test_apply_gives_three_healthy_lines_from_etcdctl(operator: Operator) -> None:
    with command_lines() as seen:
        said = operator.deploy("apply", "--yes")
    assert said.seconds < FIRST_APPLY_SECONDS_MAX
    assert len(operator.healthy_lines()) == 3
    assert "PRIVATE KEY" not in said
    secrets = private_key_lines(operator.directory)
    assert secrets
    assert not [line for line in seen if any(secret in line for secret in secrets)]


def test_a_second_apply_changes_nothing(operator: Operator) -> None:
    before = {host: (files(operator, host), operator.unit(host)["InvocationID"]) for host in HOSTS}
    said = operator.deploy("apply", "--yes")
    assert said.seconds < NO_CHANGE_SECONDS_MAX
    assert {host: (files(operator, host), operator.unit(host)["InvocationID"]) for host in HOSTS} == before
    assert "nothing to do" in operator.deploy("plan").output.lower()


def test_the_unit_is_as_one_would_write_it_by_hand(operator: Operator) -> None:
    for host in HOSTS:
        unit = operator.unit(host)
        assert unit["UnitFileState"] == "enabled"
        assert (unit["Type"], unit["User"], unit["Restart"]) == ("notify", "etcd", "on-failure")
        assert unit["RestartUSec"] == "5s"
        assert unit["LimitNOFILE"] == "65536"
        assert "network-online.target" in unit["After"].split()


def test_every_host_has_a_certificate_of_its_own_and_the_authorities_keys_stay_at_home(operator: Operator) -> None:
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


def test_nobody_listens_without_tls(operator: Operator) -> None:
    for host, address in HOSTS.items():
        for place in (f"{address}:2379", "127.0.0.1:2379", f"{address}:2380"):
            probe = f"import urllib.request; print(urllib.request.urlopen('http://{place}/health', timeout=2).status)"
            assert operator.on(host, f'python3 -c "{probe}" 2>&1 || true') != "200", place


def test_a_client_without_a_certificate_is_turned_away(operator: Operator) -> None:
    env = operator.client_environment()
    stranger = {name: value for name, value in env.items() if name not in ("ETCDCTL_CERT", "ETCDCTL_KEY")}
    operator.etcdctl("--dial-timeout=2s", "--command-timeout=3s", "put", "stranger", "1", exit_code=1, env=stranger)


def test_status_and_health_say_what_etcdctl_says(operator: Operator) -> None:
    health = operator.deploy("health")
    assert len([line for line in health.lines if "is healthy: successfully committed proposal: took = " in line]) == 3
    status = operator.deploy("status")
    for host in HOSTS:
        [line] = [line for line in status.lines if host in line]
        assert "active" in line
    [member] = {status["header"]["cluster_id"] for status in operator.statuses().values()}
    assert member


def test_env_serves_one_member_or_all(operator: Operator) -> None:
    one = operator.deploy("env", "kube-node2")
    assert "https://172.27.129.111:2379" in one
    assert "172.27.129.105" not in one
    assert len(operator.client_environment()["ETCDCTL_ENDPOINTS"].split(",")) == 3


def test_logs_of_one_host_and_of_all(operator: Operator) -> None:
    every = operator.deploy("logs")
    for host in HOSTS:
        assert host in every
    one = operator.deploy("logs", "kube-node1")
    assert "kube-node1" in one
    assert "kube-node2" not in {line.split()[0] for line in one.lines if line}


def test_ssh_opens_a_shell_on_a_host(operator: Operator) -> None:
    assert "kube-node3" in operator.deploy("ssh", "kube-node3", "--", "hostname")


def test_a_changed_flag_is_a_diff_and_goes_to_one_member_at_a_time_leader_last(operator: Operator) -> None:
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


def test_a_killed_leader_s_host_loses_no_acknowledged_write(operator: Operator) -> None:
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
        wait_until(lambda: len(operator.healthy_lines(env)) == 3, seconds=30)
    assert not written.lost(operator, env)
    assert written.longest_gap_seconds < PAUSE_SECONDS_MAX
    operator.deploy("health")


def test_with_one_member_down_nothing_that_stops_another_is_done(operator: Operator) -> None:
    operator.set("flags", {"heartbeat-interval": "160"})
    env = operator.client_environment()
    operator.on("kube-node2", "systemctl stop etcd")
    before = {host: operator.unit(host)["InvocationID"] for host in ("kube-node1", "kube-node3")}
    said = operator.deploy("restart", exit_code=1)
    assert "kube-node2" in said
    assert {host: operator.unit(host)["InvocationID"] for host in before} == before
    operator.deploy("apply", "--yes")  # starts the one that is down, first
    assert len(operator.healthy_lines(env)) == 3


def test_destroy_asks_first_and_then_leaves_nothing_behind(operator: Operator) -> None:
    operator.deploy("destroy", stdin="no\n", exit_code=1)
    assert len(operator.healthy_lines()) == 3
    operator.deploy("destroy", "--yes")
    for host in HOSTS:
        assert operator.unit(host)["LoadState"] == "not-found"
        left = operator.on(host, "ls -d /etc/systemd/system/etcd* /var/lib/etcd /etc/etcd/cert /opt/tercet 2>/dev/null || true")
        assert left == ""
        assert operator.on(host, "pgrep -u etcd || true") == ""


def test_no_private_key_was_ever_shown(operator: Operator) -> None:
    secrets = private_key_lines(operator.directory)
    assert not [secret for secret in secrets if secret in operator.transcript]
    for host in HOSTS:
        journal = Path(operator.machine(host).root, "var/log/journal")
        assert not [path for path in journal.rglob("*.journal") for secret in secrets if secret.encode() in path.read_bytes()]
