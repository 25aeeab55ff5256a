"""The layout of a manual deployment, with upstream etcd as the engine and a login with sudo; the tests run in order."""

from __future__ import annotations

import hashlib
import itertools
import time
from typing import Any

import pytest

from tests.hosts.network import HOSTS
from tests.hosts.observations import down_times, files, wait_until
from tests.hosts.session import ENVIRONMENT_SH, Operator, release_tarball
from tests.hosts.writer import writing
from tests.support.waiting import scaled

pytestmark = pytest.mark.timeout(180, func_only=True)

FIRST_APPLY_SECONDS_MAX = scaled(150)  # about 20 on an idle machine; the limit bounds a failure
NO_CHANGE_SECONDS_MAX = scaled(60)  # about 2 on an idle machine
PAUSE_SECONDS_MAX = scaled(30)  # about 1 on an idle machine


def test_a_tarball_with_another_digest_is_rejected(operator: Operator) -> None:
    tarball = release_tarball(operator.directory)
    operator.write("environment.sh", ENVIRONMENT_SH)
    operator.deploy("init", "--from", "environment.sh")

    def manual_layout(settings: dict[str, Any]) -> None:
        settings["engine"] = {"kind": "etcd", "source": tarball.name, "sha256": "0" * 64}
        settings["ssh"] = {"user": "deployer", "connect_timeout": 3}
        settings["hosts"][2]["ssh"] = {"jump": "root@kube-node1"}
        settings["tls"] = {"shared": True, "key_algorithm": "rsa", "key_size": 2048}
        settings["tls"]["names"] = {"C": "CN", "ST": "BeiJing", "L": "BeiJing", "O": "k8s", "OU": "4Paradigm"}
        settings["paths"] = {"bin": "/opt/k8s/bin", "ca": "/etc/kubernetes/cert/ca.pem"}
        settings["service"] = {"user": "k8s"}
        settings["listen"] = {"plain_loopback": True}

    operator.edit(manual_layout)
    result = operator.deploy("apply", "--yes", exit_code=1)
    assert tarball.name in result
    assert "sha256" in result.output.lower()
    right = hashlib.sha256(tarball.read_bytes()).hexdigest()
    operator.set("engine", {"sha256": right})


def test_plan_warns_of_a_plain_listener(operator: Operator) -> None:
    result = operator.deploy("plan")
    assert "http://127.0.0.1:2379" in result
    assert any("127.0.0.1" in line and ("without TLS" in line or "plain" in line) for line in result.lines)


def test_apply_makes_three_healthy_members(operator: Operator) -> None:
    result = operator.deploy("apply", "--yes")
    assert result.seconds < FIRST_APPLY_SECONDS_MAX
    assert len(operator.healthy_lines()) == 3
    assert {status["version"] for status in operator.statuses().values()} == {"3.5.1"}


def test_the_jump_host_was_used(operator: Operator) -> None:
    logins = operator.on("kube-node3", "journalctl -u ssh -o cat | grep Accepted").splitlines()
    assert logins
    assert all(f"for deployer from {HOSTS['kube-node1']} " in login for login in logins), logins


def test_manual_checks_work_on_every_host(operator: Operator) -> None:
    for host, address in HOSTS.items():
        assert "active (running)" in operator.on(host, "systemctl status etcd | grep Active")
        result = operator.on(
            host,
            f"ETCDCTL_API=3 /opt/k8s/bin/etcdctl --endpoints=https://{address}:2379 --cacert=/etc/kubernetes/cert/ca.pem "
            "--cert=/etc/etcd/cert/etcd.pem --key=/etc/etcd/cert/etcd-key.pem endpoint health",
        )
        assert f"https://{address}:2379 is healthy: successfully committed proposal: took = " in result
        assert "is healthy" in operator.on(host, "/opt/k8s/bin/etcdctl --endpoints=http://127.0.0.1:2379 endpoint health")
        assert operator.on(host, "stat -c '%a %U' /etc/etcd/cert/etcd-key.pem") == "600 k8s"
        assert operator.on(host, "stat -c '%a %U' /var/lib/etcd") == "700 k8s"
    keys = {operator.on(host, "sha256sum /etc/etcd/cert/etcd-key.pem") for host in HOSTS}
    assert len(keys) == 1


def test_a_second_apply_changes_nothing(operator: Operator) -> None:
    before = {host: (files(operator, host), operator.unit(host)["InvocationID"]) for host in HOSTS}
    result = operator.deploy("apply", "--yes")
    assert result.seconds < NO_CHANGE_SECONDS_MAX
    assert {host: (files(operator, host), operator.unit(host)["InvocationID"]) for host in HOSTS} == before


def test_status_and_health(operator: Operator) -> None:
    health = operator.deploy("health")
    assert len([line for line in health.lines if "is healthy: successfully committed proposal: took = " in line]) == 3
    status = operator.deploy("status")
    assert "3.5.1" in status


def test_a_rolling_restart_loses_no_acknowledged_write(operator: Operator) -> None:
    env = operator.client_environment()
    leader = operator.leader(env)
    with writing(operator, env) as written:
        operator.deploy("restart")
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
        time.sleep(4)
        operator.deploy("health", exit_code=1)
        operator.lab.boot(victim)
        wait_until(lambda: len(operator.healthy_lines(env)) == 3, seconds=120)
    assert not written.lost(operator, env)
    assert written.longest_gap_seconds < PAUSE_SECONDS_MAX
