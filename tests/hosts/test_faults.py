"""What goes wrong on the way to a cluster: one clear message each, exit code 1, and the next `apply` goes on from there.

The faults come in the order in which a first `apply` meets them, so that each `apply` also proves that the one before it left
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
from tests.hosts.session import ENVIRONMENT_SH, Operator, Said

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(autouse=True)
def afterwards(operator: Operator) -> Iterator[ExitStack]:
    """What puts things right again, also where a test has failed; the cluster file is as it was in any case."""
    path = operator.directory / "cluster.yaml"
    before = path.read_text() if path.exists() else None
    with ExitStack() as stack:
        yield stack
    if before is not None:
        path.write_text(before)


def one_message(said: Said, *words: str) -> str:
    """The message about a fault: there is one, it has these words, and the time is not a traceback."""
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


def test_equal_arrays(operator: Operator) -> None:
    operator.write("environment.sh", ENVIRONMENT_SH)
    operator.deploy("init", "--from", "environment.sh")
    operator.set("ssh", {"connect_timeout": 3})


def test_a_member_name_twice(operator: Operator) -> None:

    def twice(settings: dict[str, Any]) -> None:
        settings["hosts"][2]["name"] = "kube-node1"

    operator.edit(twice)
    said = operator.deploy("plan", exit_code=1)
    one_message(said, "cluster.yaml:", "hosts[2].name", "kube-node1")


def test_an_even_count_is_a_warning(operator: Operator) -> None:
    operator.edit(lambda settings: settings["hosts"].pop())
    said = operator.deploy("plan")
    assert "warning" in said.output.lower()
    assert "2 members" in said


def test_an_expired_authority(operator: Operator) -> None:
    certificate, key = authority(valid_until=datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1))
    (operator.directory / "old-ca.pem").write_bytes(certificate)
    (operator.directory / "old-ca-key.pem").write_bytes(key)
    (operator.directory / "old-ca-key.pem").chmod(0o600)
    operator.set("tls", {"ca_certificate": "old-ca.pem", "ca_key": "old-ca-key.pem"})
    with untouched(operator):
        said = operator.deploy("apply", "--yes", exit_code=1)
    one_message(said, "old-ca.pem", "expired")


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


def test_an_unreachable_host(operator: Operator, afterwards: ExitStack) -> None:
    set_link(operator.lab.name, "kube-node2", up=False)
    afterwards.callback(set_link, operator.lab.name, "kube-node2", up=True)
    said = operator.deploy("apply", "--yes", exit_code=1)
    one_message(said, "kube-node2: connect")
    for host in HOSTS:
        assert operator.unit(host)["LoadState"] == "not-found"


def test_an_unknown_host_key_is_shown_and_a_changed_one_is_never_accepted(operator: Operator, afterwards: ExitStack) -> None:
    known_hosts = operator.lab.home / ".ssh/known_hosts"
    afterwards.callback(operator.lab.trust_hosts)
    known_hosts.write_text("")
    said = operator.deploy("plan", exit_code=1)
    one_message(said, "kube-node1", "SHA256:", "--accept-new")
    public_keys = sorted((operator.machine("kube-node1").root / "etc/ssh").glob("ssh_host_*_key.pub"))
    fingerprints = [operator.run("ssh-keygen", "-lf", str(path)).output.split()[1] for path in public_keys]
    assert any(fingerprint in said for fingerprint in fingerprints)
    assert known_hosts.read_text() == ""
    operator.deploy("plan", "--accept-new")
    operator.run("ssh", "-o", "StrictHostKeyChecking=yes", HOSTS["kube-node1"], "true")

    operator.lab.trust_hosts()
    keys = {host: operator.machine(host).host_key().split(" ", 1) for host in HOSTS}
    keys["kube-node3"][1] = keys["kube-node1"][1]
    known_hosts.write_text("".join(f"{names} {key}" for names, key in keys.values()))
    said = operator.deploy("plan", "--accept-new", exit_code=1)
    one_message(said, "kube-node3", "known_hosts")


def test_a_wrong_sudo_password(operator: Operator) -> None:
    operator.set("ssh", {"user": "ops"})
    plan = (str(operator.program), "deploy", "plan")
    prompts = [f"{host}: sudo password for ops:" for host in HOSTS]
    with untouched(operator):
        said = operator.converse(*plan, answers=[(prompt, "not the password") for prompt in prompts], exit_code=1)
        one_message(said, "kube-node1: sudo", "does not accept this password")
        assert "not the password" not in said
        operator.converse(*plan, answers=[(prompt, "lab password") for prompt in prompts], exit_code=0)
        unattended = operator.deploy("plan", exit_code=1)
        one_message(unattended, "kube-node1: sudo", "password")


# The hosts.


def test_a_port_that_is_taken(operator: Operator, afterwards: ExitStack) -> None:
    operator.on("kube-node3", "systemd-run --unit=squatter python3 -m http.server 2379")
    afterwards.callback(operator.on, "kube-node3", "systemctl stop squatter")
    time.sleep(0.5)
    with untouched(operator):
        said = operator.deploy("apply", "--yes", exit_code=1)
    one_message(said, "kube-node3", "2379", "squatter.service")


def test_a_disk_that_is_full_from_the_start(operator: Operator, afterwards: ExitStack) -> None:
    operator.on("kube-node1", "mount -t tmpfs -o size=1M tmpfs /opt")
    afterwards.callback(operator.on, "kube-node1", "umount /opt")
    said = operator.deploy("apply", "--yes", exit_code=1)
    one_message(said, "kube-node1", "/opt")


def test_ssh_that_is_dropped_half_way(operator: Operator) -> None:
    sessions = "for pid in $(pgrep -f '^sshd: [a-z]*@notty'); do kill -9 $pid; done"
    said = interrupted(operator, when="kube-node2", act=lambda: operator.on("kube-node2", sessions, exit_code=None))
    one_message(said, "kube-node2: ", "connection")


def test_a_disk_that_becomes_full(operator: Operator, afterwards: ExitStack) -> None:
    operator.on("kube-node1", "mkdir -p /opt/tercet && mount -t tmpfs -o size=1G,nr_inodes=30 tmpfs /opt/tercet")
    afterwards.callback(operator.on, "kube-node1", "umount /opt/tercet")
    said = operator.deploy("apply", "--yes", exit_code=1)
    one_message(said, "kube-node1: ", "No space left on device")


def test_control_c_in_the_middle(operator: Operator) -> None:
    said = interrupted(operator, when="kube-node1", act=None)
    one_message(said, "again")


def drop_in(operator: Operator, afterwards: ExitStack, text: str) -> None:
    """An administrator's own lines for kube-node2's unit, until the test is over."""
    directory = "/etc/systemd/system/etcd.service.d"
    done = operator.machine("kube-node2").inside(
        f"mkdir -p {directory} && cat >{directory}/fault.conf && systemctl daemon-reload", stdin=text
    )
    assert done.returncode == 0
    afterwards.callback(operator.on, "kube-node2", f"rm -r {directory} && systemctl daemon-reload")


def test_a_unit_that_fails_shows_its_journal(operator: Operator, afterwards: ExitStack) -> None:
    drop_in(operator, afterwards, '[Service]\nExecStartPre=/bin/sh -c "echo the cellar is flooded >&2; exit 3"\n')
    said = operator.deploy("apply", "--yes", exit_code=1)
    one_message(said, "kube-node2: ", "the cellar is flooded")


def test_a_unit_that_never_becomes_ready(operator: Operator, afterwards: ExitStack) -> None:
    operator.set("service", {"start_timeout_seconds": 6})
    drop_in(operator, afterwards, "[Service]\nExecStartPre=/bin/sleep 600\n")
    said = operator.deploy("apply", "--yes", exit_code=1)
    one_message(said, "kube-node2: ", "ready")


def test_the_next_apply_finishes_the_job(operator: Operator) -> None:
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
        while process.poll() is None and not machine.inside("pgrep -f '[i]mport sys; source'").stdout:
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
