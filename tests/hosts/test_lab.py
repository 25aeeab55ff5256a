"""The lab itself: three isolated systems."""

from tests.hosts.lab import Lab
from tests.hosts.network import HOSTS
from tests.hosts.session import Operator


def test_the_operator_can_log_in_to_every_host(operator: Operator) -> None:
    for host, address in HOSTS.items():
        said = operator.run("ssh", host, "hostname; systemctl is-system-running; hostname -I")
        name, state, addresses = said.lines
        assert (name, state) == (host, "running")
        assert address in addresses.split()


def test_the_lab_has_no_outside_network(operator: Operator) -> None:
    assert "default" not in operator.run("ip", "route").output
    for host in HOSTS:
        assert "default" not in operator.on(host, "ip route; ip -6 route")


def test_hosts_reach_one_another_by_name(operator: Operator) -> None:
    greeting = 'python3 -c "import socket; print(socket.create_connection((\\"kube-node3\\", 22), 5).recv(7))"'
    assert "SSH-2.0" in operator.on("kube-node1", greeting)


def test_hosts_have_separate_services(operator: Operator) -> None:
    for host in HOSTS:
        operator.on(host, "systemd-run --unit=nap sleep 1000")
    operator.on("kube-node1", "systemctl stop nap")
    assert operator.on("kube-node2", "systemctl is-active nap") == "active"
    assert operator.on("kube-node3", "systemctl is-active nap") == "active"


def test_a_killed_host_keeps_its_disk(operator: Operator) -> None:
    lab: Lab = operator.lab
    operator.on("kube-node2", "echo kept >/var/lib/kept && sync")
    lab.kill("kube-node2")
    assert operator.machine("kube-node2").supervisor is None
    assert operator.run("ssh", "-o", "ConnectTimeout=1", "kube-node2", "true", exit_code=255)
    lab.boot("kube-node2")
    assert operator.run("ssh", "kube-node2", "cat /var/lib/kept").output.strip() == "kept"


def test_sudo_requires_a_password_only_from_ops(operator: Operator) -> None:
    assert "password is required" in operator.run("ssh", "ops@kube-node1", "sudo -n id -u", exit_code=1)
    said = operator.run("ssh", "ops@kube-node1", "sudo -S -p '' id -u", stdin="lab password\n")
    assert said.output.strip() == "0"
    assert operator.run("ssh", "deployer@kube-node1", "sudo -n id -u").output.strip() == "0"
