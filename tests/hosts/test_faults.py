"""What goes wrong on the way to a cluster: one clear message each, exit code 1, and the next `apply` goes on from there.

The faults come in the order in which a first `apply` meets them, so that each `apply` also proves that the one before it left
nothing in the way; the last one gives three healthy members.
"""

from __future__ import annotations

import datetime
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.hosts.network import HOSTS, set_link
from tests.hosts.observations import files
from tests.hosts.session import ENVIRONMENT_SH, Operator, Said

pytestmark = pytest.mark.timeout(180)


def one_message(said: Said, *words: str) -> str:
    """The message about a fault: there is one, it has these words, and it is not a traceback."""
    assert "Traceback" not in said.output
    text = said.output
    for word in words:
        assert word in text, f"{word!r} is not in:\n{text}"
    return text


@contextmanager
def untouched(operator: Operator) -> Iterator[None]:
    """Nothing on any host changes in this block."""
    before = {host: files(operator, host) for host in HOSTS}
    yield
    assert {host: files(operator, host) for host in HOSTS} == before


# The files.


def test_unequal_arrays(operator: Operator) -> None:
    operator.write("environment.sh", ENVIRONMENT_SH.replace(" kube-node3)", ")"))
    said = operator.deploy("init", "--from", "environment.sh", exit_code=1)
    one_message(said, "environment.sh", "NODE_IPS", "NODE_NAMES", "3", "2")
    assert not (operator.directory / "cluster.yaml").exists()


def test_a_member_name_twice(operator: Operator) -> None:
    operator.write("environment.sh", ENVIRONMENT_SH)
    operator.deploy("init", "--from", "environment.sh")
    operator.set("ssh", {"connect_timeout": 3})
    right = (operator.directory / "cluster.yaml").read_text()

    def twice(settings: dict[str, Any]) -> None:
        settings["hosts"][2]["name"] = "kube-node1"

    operator.edit(twice)
    said = operator.deploy("plan", exit_code=1)
    one_message(said, "cluster.yaml:", "hosts[2].name", "kube-node1")
    operator.write("cluster.yaml", right)


def test_an_even_count_is_a_warning(operator: Operator) -> None:
    right = (operator.directory / "cluster.yaml").read_text()
    operator.edit(lambda settings: settings["hosts"].pop())
    said = operator.deploy("plan")
    assert "warning" in said.output.lower()
    assert "2 members" in said
    operator.write("cluster.yaml", right)


def test_an_expired_authority(operator: Operator) -> None:
    right = (operator.directory / "cluster.yaml").read_text()
    certificate, key = authority(valid_until=datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1))
    (operator.directory / "old-ca.pem").write_bytes(certificate)
    (operator.directory / "old-ca-key.pem").write_bytes(key)
    (operator.directory / "old-ca-key.pem").chmod(0o600)
    operator.set("tls", {"ca_certificate": "old-ca.pem", "ca_key": "old-ca-key.pem"})
    with untouched(operator):
        said = operator.deploy("apply", "--yes", exit_code=1)
    one_message(said, "old-ca.pem", "expired")
    operator.write("cluster.yaml", right)


def authority(*, valid_until: datetime.datetime) -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "last year's authority")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(valid_until - datetime.timedelta(days=365))
        .not_valid_after(valid_until)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain),
    )


# The way to the hosts.


def test_an_unreachable_host(operator: Operator) -> None:
    set_link(operator.lab.name, "kube-node2", up=False)
    said = operator.deploy("apply", "--yes", exit_code=1)
    set_link(operator.lab.name, "kube-node2", up=True)
    one_message(said, "kube-node2: connect")
    for host in HOSTS:
        assert operator.unit(host)["LoadState"] == "not-found"


def test_an_unknown_host_key_is_shown_and_a_changed_one_is_never_accepted(operator: Operator) -> None:
    known_hosts = operator.lab.home / ".ssh/known_hosts"
    known_hosts.write_text("")
    said = operator.deploy("plan", exit_code=1)
    one_message(said, "kube-node1", "SHA256:", "--accept-new")
    fingerprint = operator.run(
        "ssh-keygen", "-lf", str(operator.machine("kube-node1").root / "etc/ssh/ssh_host_ed25519_key.pub")
    )
    assert fingerprint.output.split()[1] in said
    assert known_hosts.read_text() == ""
    operator.deploy("plan", "--accept-new")
    operator.run("ssh", "-o", "StrictHostKeyChecking=yes", HOSTS["kube-node1"], "true")

    lines = known_hosts.read_text().splitlines()
    impostor = next(line for line in lines if HOSTS["kube-node3"] in line)
    mine = next(line for line in lines if HOSTS["kube-node1"] in line)
    known_hosts.write_text(
        "\n".join(line if line != impostor else f"{HOSTS['kube-node3']} {mine.split(' ', 1)[1]}" for line in lines)
    )
    said = operator.deploy("plan", "--accept-new", exit_code=1)
    one_message(said, "kube-node3", "known_hosts")
    operator.lab.trust_hosts()


def test_a_wrong_sudo_password(operator: Operator) -> None:
    right = (operator.directory / "cluster.yaml").read_text()
    operator.set("ssh", {"user": "ops"})
    plan = (str(operator.program), "deploy", "plan")
    prompts = [f"{host}: password of ops for sudo:" for host in HOSTS]
    with untouched(operator):
        said = operator.converse(*plan, answers=[(prompt, "not the password") for prompt in prompts], exit_code=1)
        one_message(said, "kube-node1: sudo", "does not accept this password")
        assert "not the password" not in said
        operator.converse(*plan, answers=[(prompt, "lab password") for prompt in prompts], exit_code=0)
        unattended = operator.deploy("plan", exit_code=1)
        one_message(unattended, "kube-node1: sudo", "password")
    operator.write("cluster.yaml", right)


# The hosts.


def test_a_port_that_is_taken(operator: Operator) -> None:
    operator.on("kube-node3", "systemd-run --unit=squatter python3 -m http.server 2379")
    time.sleep(0.5)
    with untouched(operator):
        said = operator.deploy("apply", "--yes", exit_code=1)
    one_message(said, "kube-node3", "2379", "squatter.service")
    operator.on("kube-node3", "systemctl stop squatter")


def test_a_disk_that_is_full_from_the_start(operator: Operator) -> None:
    operator.on("kube-node1", "mount -t tmpfs -o size=1M tmpfs /opt")
    said = operator.deploy("apply", "--yes", exit_code=1)
    operator.on("kube-node1", "umount /opt")
    one_message(said, "kube-node1", "/opt")


def test_ssh_that_is_dropped_half_way(operator: Operator) -> None:
    sessions = "for pid in $(pgrep -f '^sshd: [a-z]*@notty'); do kill -9 $pid; done"
    said = interrupted(operator, when="kube-node2", act=lambda: operator.on("kube-node2", sessions, exit_code=None))
    one_message(said, "kube-node2: ", "connection")


def test_a_disk_that_becomes_full(operator: Operator) -> None:
    operator.on("kube-node1", "mkdir -p /opt/tercet && mount -t tmpfs -o size=1G,nr_inodes=30 tmpfs /opt/tercet")
    said = operator.deploy("apply", "--yes", exit_code=1)
    operator.on("kube-node1", "umount /opt/tercet")
    one_message(said, "kube-node1: ", "No space left on device")


def test_control_c_in_the_middle(operator: Operator) -> None:
    said = interrupted(operator, when="kube-node1", act=None)
    one_message(said, "again")


def test_a_unit_that_fails_shows_its_journal(operator: Operator) -> None:
    operator.on(
        "kube-node2",
        "mkdir -p /etc/systemd/system/etcd.service.d && printf '[Service]\\n"
        'ExecStartPre=/bin/sh -c "echo the cellar is flooded >&2; exit 3"\\n\' >/etc/systemd/system/etcd.service.d/cellar.conf'
        " && systemctl daemon-reload",
    )
    said = operator.deploy("apply", "--yes", exit_code=1)
    one_message(said, "kube-node2: ", "the cellar is flooded")
    operator.on("kube-node2", "rm /etc/systemd/system/etcd.service.d/cellar.conf && systemctl daemon-reload")


def test_a_unit_that_never_becomes_ready(operator: Operator) -> None:
    operator.set("service", {"start_timeout_seconds": 6})
    drop_in = "/etc/systemd/system/etcd.service.d/slow.conf"
    operator.on("kube-node2", f"printf '[Service]\\nExecStartPre=/bin/sleep 600\\n' >{drop_in} && systemctl daemon-reload")
    said = operator.deploy("apply", "--yes", exit_code=1)
    one_message(said, "kube-node2: ", "ready")
    operator.on("kube-node2", f"rm {drop_in} && rmdir $(dirname {drop_in}) && systemctl daemon-reload")


def test_the_next_apply_finishes_the_job(operator: Operator) -> None:
    operator.set("service", {"start_timeout_seconds": 60})
    operator.deploy("apply", "--yes")
    assert len(operator.healthy_lines()) == 3
    assert "nothing to do" in operator.deploy("plan").output.lower()


def test_control_c_in_a_rolling_change_leaves_a_quorum(operator: Operator) -> None:
    operator.set("flags", {"heartbeat-interval": "140"})
    env = operator.client_environment()
    with operator.start(str(operator.program), "deploy", "apply", "--yes") as process:
        before = {host: operator.unit(host)["InvocationID"] for host in HOSTS}
        while process.poll() is None and all(operator.unit(host)["InvocationID"] == before[host] for host in HOSTS):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    operator.show(output)
    assert process.returncode == 1
    assert len(operator.healthy_lines(env)) >= 2
    operator.deploy("apply", "--yes")
    assert len(operator.healthy_lines(env)) == 3


def interrupted(operator: Operator, *, when: str, act: Callable[[], Any] | None) -> Said:
    """`apply`, and as soon as it copies to the host `when`, `act` or (None) Ctrl-C."""
    started = time.monotonic()
    with operator.start(str(operator.program), "deploy", "apply", "--yes") as process:
        machine = operator.machine(when)
        while process.poll() is None and not machine.inside("pgrep -f -- '-I -c import sys; source'").stdout:
            time.sleep(0.02)
        if act is None:
            process.send_signal(signal.SIGINT)
        else:
            act()
        output, _ = process.communicate(timeout=90)
    said = Said("tercet deploy apply --yes", output, process.returncode, time.monotonic() - started)
    operator.show(f"$ {said.command}\n{output}\n[exit {said.exit_code}]")
    assert said.exit_code == 1
    return said
