"""Failures of a deployment: one clear message each, exit code 1, and the next `apply` continues.

The failures are in the order in which a first `apply` meets them, so that each `apply` also proves that the previous one left
no conflicts; the last one gives three healthy members.
"""

from __future__ import annotations

import datetime
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.hosts.network import HOSTS, set_link
from tests.hosts.observations import files
from tests.hosts.session import ENVIRONMENT_SH, Operator, Result

pytestmark = pytest.mark.timeout(180, func_only=True)


@pytest.fixture(autouse=True)
def afterwards(operator: Operator) -> Iterator[ExitStack]:
    """Cleanup after each test, also after a failure; the cluster file is restored."""
    path = operator.directory / "cluster.yaml"
    before = path.read_text() if path.exists() else None
    with ExitStack() as stack:
        yield stack
    if before is not None:
        path.write_text(before)


def one_message(result: Result, *texts: str) -> str:
    """Check that the output has these texts and no traceback."""
    assert "Traceback" not in result.output
    text = result.output
    for expected in texts:
        assert expected in text, f"{expected!r} is not in:\n{text}"
    return text


@contextmanager
def untouched(operator: Operator) -> Iterator[None]:
    """Check that the block changes nothing on any host."""
    before = {host: files(operator, host) for host in HOSTS}
    yield
    assert {host: files(operator, host) for host in HOSTS} == before


# Input files.


def test_arrays_of_different_length_are_an_error(operator: Operator) -> None:
    operator.write("environment.sh", ENVIRONMENT_SH.replace(" kube-node3)", ")"))
    result = operator.deploy("init", "--from", "environment.sh", exit_code=1)
    one_message(result, "environment.sh", "NODE_IPS", "NODE_NAMES", "3", "2")
    assert not (operator.directory / "cluster.yaml").exists()


def test_init_after_the_correction(operator: Operator) -> None:
    operator.write("environment.sh", ENVIRONMENT_SH)
    operator.deploy("init", "--from", "environment.sh")
    operator.set("ssh", {"connect_timeout": 3})


def test_a_duplicate_member_name_is_an_error(operator: Operator) -> None:

    def twice(settings: dict[str, Any]) -> None:
        settings["hosts"][2]["name"] = "kube-node1"

    operator.edit(twice)
    result = operator.deploy("plan", exit_code=1)
    one_message(result, "cluster.yaml:", "hosts[2].name", "kube-node1")


def test_an_even_count_is_a_warning(operator: Operator) -> None:
    operator.edit(lambda settings: settings["hosts"].pop())
    result = operator.deploy("plan")
    assert "warning" in result.output.lower()
    assert "2 members" in result


def test_an_expired_ca_is_an_error(operator: Operator) -> None:
    certificate, key = ca_pair(valid_until=datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1))
    (operator.directory / "old-ca.pem").write_bytes(certificate)
    (operator.directory / "old-ca-key.pem").write_bytes(key)
    (operator.directory / "old-ca-key.pem").chmod(0o600)
    operator.set("tls", {"ca_certificate": "old-ca.pem", "ca_key": "old-ca-key.pem"})
    with untouched(operator):
        result = operator.deploy("apply", "--yes", exit_code=1)
    one_message(result, "old-ca.pem", "expired")


def ca_pair(*, valid_until: datetime.datetime) -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "expired CA")])
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


# Connections.


def test_an_unreachable_host_is_an_error(operator: Operator, afterwards: ExitStack) -> None:
    set_link(operator.lab.name, "kube-node2", up=False)
    afterwards.callback(set_link, operator.lab.name, "kube-node2", up=True)
    result = operator.deploy("apply", "--yes", exit_code=1)
    one_message(result, "kube-node2: connect")
    for host in HOSTS:
        assert operator.unit(host)["LoadState"] == "not-found"


def test_unknown_and_changed_host_keys(operator: Operator, afterwards: ExitStack) -> None:
    known_hosts = operator.lab.home / ".ssh/known_hosts"
    afterwards.callback(operator.lab.trust_hosts)
    known_hosts.write_text("")
    result = operator.deploy("plan", exit_code=1)
    one_message(result, "kube-node1", "SHA256:", "--accept-new")
    public_keys = sorted((operator.machine("kube-node1").root / "etc/ssh").glob("ssh_host_*_key.pub"))
    fingerprints = [operator.run("ssh-keygen", "-lf", str(path)).output.split()[1] for path in public_keys]
    assert any(fingerprint in result for fingerprint in fingerprints)
    assert known_hosts.read_text() == ""
    operator.deploy("plan", "--accept-new")
    operator.run("ssh", "-o", "StrictHostKeyChecking=yes", HOSTS["kube-node1"], "true")

    operator.lab.trust_hosts()
    keys = {host: operator.machine(host).host_key().split(" ", 1) for host in HOSTS}
    keys["kube-node3"][1] = keys["kube-node1"][1]
    known_hosts.write_text("".join(f"{names} {key}" for names, key in keys.values()))
    result = operator.deploy("plan", "--accept-new", exit_code=1)
    one_message(result, "kube-node3", "known_hosts")


def test_a_wrong_sudo_password_is_an_error(operator: Operator) -> None:
    operator.set("ssh", {"user": "ops"})
    plan = (str(operator.program), "deploy", "plan")
    prompts = [f"{host}: sudo password for ops:" for host in HOSTS]
    with untouched(operator):
        result = operator.converse(*plan, answers=[(prompt, "not the password") for prompt in prompts], exit_code=1)
        one_message(result, "kube-node1: sudo", "wrong sudo password")
        assert "not the password" not in result
        operator.converse(*plan, answers=[(prompt, "lab password") for prompt in prompts], exit_code=0)
        unattended = operator.deploy("plan", exit_code=1)
        one_message(unattended, "kube-node1: sudo", "password")


# The hosts.


def test_a_port_in_use_is_an_error(operator: Operator, afterwards: ExitStack) -> None:
    operator.on("kube-node3", "systemd-run --unit=squatter python3 -m http.server 2379")
    afterwards.callback(operator.on, "kube-node3", "systemctl stop squatter")
    connect = "import socket; socket.create_connection(('127.0.0.1', 2379), 5)"
    operator.on("kube-node3", f'timeout 60 sh -c "until python3 -c \\"{connect}\\" 2>/dev/null; do sleep 0.1; done"')
    with untouched(operator):
        result = operator.deploy("apply", "--yes", exit_code=1)
    one_message(result, "kube-node3", "2379", "squatter.service")


def test_a_full_disk_is_found_by_preflight(operator: Operator, afterwards: ExitStack) -> None:
    operator.on("kube-node1", "mount -t tmpfs -o size=1M tmpfs /opt")
    afterwards.callback(operator.on, "kube-node1", "umount /opt")
    result = operator.deploy("apply", "--yes", exit_code=1)
    one_message(result, "kube-node1", "/opt")


def test_a_lost_ssh_connection_is_an_error(operator: Operator) -> None:
    sessions = "for pid in $(pgrep -f '^sshd: [a-z]*@notty'); do kill -9 $pid; done"
    result = interrupted(operator, when="kube-node2", act=lambda: operator.on("kube-node2", sessions, exit_code=None))
    one_message(result, "kube-node2: ", "connection")


def test_a_disk_that_fills_up_during_apply_is_an_error(operator: Operator, afterwards: ExitStack) -> None:
    operator.on("kube-node1", "mkdir -p /opt/tercet && mount -t tmpfs -o size=1G,nr_inodes=30 tmpfs /opt/tercet")
    afterwards.callback(operator.on, "kube-node1", "umount /opt/tercet")
    result = operator.deploy("apply", "--yes", exit_code=1)
    one_message(result, "kube-node1: ", "No space left on device")


def test_control_c_during_apply(operator: Operator) -> None:
    result = interrupted(operator, when="kube-node1", act=None)
    one_message(result, "rerun the command to continue")


def drop_in(operator: Operator, afterwards: ExitStack, text: str) -> None:
    """A drop-in for kube-node2's unit, until the end of the test."""
    directory = "/etc/systemd/system/etcd.service.d"
    done = operator.machine("kube-node2").inside(
        f"mkdir -p {directory} && cat >{directory}/fault.conf && systemctl daemon-reload", stdin=text
    )
    assert done.returncode == 0
    afterwards.callback(operator.on, "kube-node2", f"rm -r {directory} && systemctl daemon-reload")


def test_a_failed_unit_shows_its_journal(operator: Operator, afterwards: ExitStack) -> None:
    drop_in(operator, afterwards, '[Service]\nExecStartPre=/bin/sh -c "echo no such device >&2; exit 3"\n')
    result = operator.deploy("apply", "--yes", exit_code=1)
    one_message(result, "kube-node2: ", "no such device")


def test_a_unit_that_does_not_become_ready_is_an_error(operator: Operator, afterwards: ExitStack) -> None:
    operator.set("service", {"start_timeout_seconds": 6})
    drop_in(operator, afterwards, "[Service]\nExecStartPre=/bin/sleep 600\n")
    result = operator.deploy("apply", "--yes", exit_code=1)
    one_message(result, "kube-node2: ", "ready")


def test_the_next_apply_completes_the_deployment(operator: Operator) -> None:
    operator.deploy("apply", "--yes")
    assert len(operator.healthy_lines()) == 3
    assert "nothing to do" in operator.deploy("plan").output.lower()


def test_control_c_during_a_rolling_restart_keeps_the_quorum(operator: Operator) -> None:
    operator.set("flags", {"heartbeat-interval": "140"})
    env = operator.client_environment()
    with operator.start(str(operator.program), "deploy", "apply", "--yes") as process:
        before = {host: operator.unit(host)["InvocationID"] for host in HOSTS}
        while process.poll() is None and all(operator.unit(host)["InvocationID"] == before[host] for host in HOSTS):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=120)
    operator.show(output)
    assert process.returncode == 1
    assert len(operator.healthy_lines(env)) >= 2
    operator.deploy("apply", "--yes")
    assert len(operator.healthy_lines(env)) == 3


HELD_FSYNC = """
import os, time
fsync = os.fsync
def held(descriptor):
    while os.path.exists("/run/hold-fsync"):
        time.sleep(0.02)
    fsync(descriptor)
os.fsync = held
"""


@contextmanager
def held_uploads(operator: Operator, host: str) -> Iterator[None]:
    """Within the block, a file sent to the host is not complete: each fsync of a Python program there waits for its end.

    Python runs a line of a .pth file that begins with `import`, also with -I.
    """
    packages = "/usr/lib/python3/dist-packages"
    operator.on(host, f"echo 'import held_fsync' >{packages}/held_fsync.pth && touch /run/hold-fsync")
    assert operator.machine(host).inside(f"cat >{packages}/held_fsync.py", stdin=HELD_FSYNC).returncode == 0
    try:
        yield
    finally:
        operator.on(host, f"rm -rf /run/hold-fsync {packages}/held_fsync.*")


def interrupted(operator: Operator, *, when: str, act: Callable[[], Any] | None) -> Result:
    """Run `apply`; while it copies to the host `when`, call `act` or (None) send Ctrl-C."""
    started = time.monotonic()
    machine = operator.machine(when)
    is_receiving = "ls -l /proc/[0-9]*/fd 2>/dev/null | grep '[.]partial$'"
    with ExitStack() as hold:
        hold.enter_context(held_uploads(operator, when))
        with operator.start(str(operator.program), "deploy", "apply", "--yes") as process:
            while process.poll() is None and not machine.inside(is_receiving).stdout:
                time.sleep(0.02)
            if act is None:
                process.send_signal(signal.SIGINT)
            else:
                act()
            hold.close()
            output, _ = process.communicate(timeout=90)
    result = Result("tercet deploy apply --yes", output, process.returncode, time.monotonic() - started)
    operator.show(f"$ {result.command}\n{output}\n[exit {result.exit_code}]")
    assert result.exit_code == 1
    return result
