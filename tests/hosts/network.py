"""The network of the lab: one namespace per host, joined by a bridge in the operator's namespace, without outside connection.

    operator (172.27.129.1, bridge lab0) --veth-- kube-node1 (172.27.129.105)
                                         --veth-- kube-node2 (172.27.129.111)
                                         --veth-- kube-node3 (172.27.129.112)

The machine's own namespace has no route, address or interface of the lab, so that two labs may use the same addresses, and a
mistake cannot reach a real host with one of them.
"""

import subprocess
from collections.abc import Iterable
from pathlib import Path

# A lab has three hosts; one story needs all five.
HOSTS = {"kube-node1": "172.27.129.105", "kube-node2": "172.27.129.111", "kube-node3": "172.27.129.112"}
ALL_HOSTS = HOSTS | {"kube-node4": "172.27.129.113", "kube-node5": "172.27.129.114"}
OPERATOR_ADDRESS = "172.27.129.1"
PREFIX_LENGTH = 24
BRIDGE = "lab0"


def run(*command: str) -> str:
    """Run a command. Raises RuntimeError with its output."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def operator_namespace(lab: str) -> str:
    return f"tercet-{lab}-operator"


def host_namespace(lab: str, host: str) -> str:
    return f"tercet-{lab}-{host}"


def namespaces(lab: str) -> list[str]:
    """All namespaces of this lab, existing or not."""
    return [operator_namespace(lab), *(host_namespace(lab, host) for host in ALL_HOSTS)]


def create(lab: str, hosts: Iterable[str]) -> None:
    """Create and connect the namespaces of the operator and of these hosts.

    Namespaces of the same lab must have been removed before.
    """
    operator = operator_namespace(lab)
    run("ip", "netns", "add", operator)
    run("ip", "-n", operator, "link", "set", "lo", "up")
    run("ip", "-n", operator, "link", "add", BRIDGE, "type", "bridge")
    run("ip", "-n", operator, "address", "add", f"{OPERATOR_ADDRESS}/{PREFIX_LENGTH}", "dev", BRIDGE)
    run("ip", "-n", operator, "link", "set", BRIDGE, "up")
    for host in hosts:
        namespace = host_namespace(lab, host)
        run("ip", "netns", "add", namespace)
        run("ip", "-n", operator, "link", "add", host, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        run("ip", "-n", operator, "link", "set", host, "master", BRIDGE, "up")
        run("ip", "-n", namespace, "address", "add", f"{ALL_HOSTS[host]}/{PREFIX_LENGTH}", "dev", "eth0")
        run("ip", "-n", namespace, "link", "set", "eth0", "up")
        run("ip", "-n", namespace, "link", "set", "lo", "up")


def set_link(lab: str, host: str, *, up: bool) -> None:
    """Disconnect a host from the network, or reconnect it."""
    run("ip", "-n", operator_namespace(lab), "link", "set", host, "up" if up else "down")


def remove(lab: str) -> None:
    """Remove this lab's namespaces; those that are not hosts: no error. Interfaces go with them."""
    for namespace in namespaces(lab):
        if Path("/run/netns", namespace).exists():
            run("ip", "netns", "delete", namespace)
