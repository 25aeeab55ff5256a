"""Adopted hosts: what apply says about them, and which commands it refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from tercet.deploy.cluster.cluster import Cluster
from tercet.deploy.deployment import Deployment
from tercet.deploy.members.running_flags import running_flags
from tercet.deploy.members.service import certificates_on
from tercet.deploy.run.adoption import adopted_plan, differences
from tercet.deploy.ssh.remote import Completed, Host
from tercet.errors import ConfigError
from tercet.pki import init_ca
from tercet.pki.issue import Request
from tests.deploy.clusters import cluster_of

CA = init_ca(Request("the running CA"), timedelta(days=100), path_length=0)
RUNNING = {
    "name": "node1",
    "data-dir": "/var/lib/etcd",
    "cert-file": "/etc/ssl/etcd/ssl/member-node1.pem",
    "heartbeat-interval": "100",
    "initial-cluster-state": "existing",
}


class RunningHost:
    """A host whose member's process has these arguments and variables."""

    name = "node1"

    def __init__(self, *arguments: str, variables: Mapping[str, str] | None = None, files: Mapping[str, bytes] | None = None):
        self.arguments = arguments
        self.variables = dict(variables or {})
        self.files = dict(files or {})
        self.commands: list[str] = []

    async def check(self, command: str, **options: Any) -> bytes:
        self.commands.append(command)
        if not self.arguments:
            return b""
        words = b"".join(word.encode() + b"\0" for word in ("/usr/bin/etcd", *self.arguments))
        return words + b"\n== variables\n" + b"".join(f"{name}={text}\0".encode() for name, text in self.variables.items())

    async def run(self, command: str, **options: Any) -> Completed:
        return Completed(0, b"".join(b"== %s\n%s\n" % (path.encode(), text) for path, text in self.files.items()), b"")


def adopted(directory: Path, settings: str = "") -> Cluster:
    (directory / "ca.pem").write_bytes(CA.certificate)
    (directory / "ca-key.pem").write_bytes(CA.key)
    (directory / "ca-key.pem").chmod(0o600)
    return cluster_of(directory, f"adopted: true\ntls: {{ca_certificate: ca.pem, ca_key: ca-key.pem}}\n{settings}")


def test_flags_are_read_from_the_command_line_and_the_variables() -> None:
    host = RunningHost("--name", "node1", "--quota-backend-bytes=5", variables={"ETCD_DATA_DIR": "/data", "ETCD_NAME": "other"})
    cluster = Cluster(name="c", hosts=(), path=Path("cluster.yaml"))
    found = asyncio.run(running_flags(cast(Host, host), cluster))
    assert found == {"name": "node1", "quota-backend-bytes": "5", "data-dir": "/data"}
    assert asyncio.run(running_flags(cast(Host, RunningHost()), cluster)) == {}


@pytest.mark.parametrize(
    ("settings", "running", "expected"),
    [
        ("", {}, []),
        ("quota_backend_bytes: 2GiB", {"quota-backend-bytes": "0"}, []),
        ("quota_backend_bytes: 2GiB", {"quota-backend-bytes": "4294967296"}, ["with quota-backend-bytes 4294967296"]),
        ("flags: {heartbeat-interval: 100}", {}, []),
        ("flags: {heartbeat-interval: 150}", {}, ["with heartbeat-interval 100"]),
        ("flags: {max-txn-ops: 256}", {}, ["without max-txn-ops"]),
        ("paths: {data: /srv/etcd}", {}, ["with data-dir /var/lib/etcd"]),
        ("paths: {data: /srv/default.etcd}", {"data-dir": "default.etcd/"}, []),
    ],
)
def test_a_difference_from_the_file_is_named(
    tmp_path: Path, settings: str, running: dict[str, str], expected: list[str]
) -> None:
    cluster = adopted(tmp_path, settings)
    found = list(differences(cluster, cluster.hosts[0], {**RUNNING, **running}))
    assert len(found) == len(expected)
    assert all(text in found[number] for number, text in enumerate(expected))


def test_a_member_that_does_not_run_has_no_differences(tmp_path: Path) -> None:
    cluster = adopted(tmp_path, "flags: {max-txn-ops: 256}")
    assert not list(differences(cluster, cluster.hosts[0], {}))


def test_the_plan_creates_the_operators_certificate_and_nothing_on_the_hosts(tmp_path: Path) -> None:
    cluster = adopted(tmp_path)
    host = RunningHost("--name=node1", "--heartbeat-interval=100")
    plan = asyncio.run(adopted_plan(cluster, {"node1": cast(Host, host)}))
    assert [(step.host, step.title) for step in plan.steps] == [(None, "create operator certificate")]
    assert len(host.commands) == 1


def test_the_plan_needs_the_ca_that_the_members_trust(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"set tls\.ca_certificate and tls\.ca_key"):
        asyncio.run(adopted_plan(cluster_of(tmp_path, "adopted: true"), {}))


def test_the_certificates_are_those_that_the_member_uses(tmp_path: Path) -> None:
    path = "/etc/ssl/etcd/ssl/member-node1.pem"
    host = RunningHost(f"--cert-file={path}", files={path: CA.certificate})
    assert list(asyncio.run(certificates_on(cast(Host, host), adopted(tmp_path)))) == [path]
    assert asyncio.run(certificates_on(cast(Host, RunningHost()), adopted(tmp_path))) == {}


def test_commands_that_would_change_the_hosts_are_refused(tmp_path: Path) -> None:
    deployment = Deployment(adopted(tmp_path))
    refused = (
        deployment.renew_certificates(),
        deployment.change_member("replace", "node1"),
        deployment.upgrade(),
        deployment.rollback(),
        deployment.migrate(),
        deployment.restore(tmp_path / "snapshot.db"),
        deployment.recover(),
        deployment.destroy_plan(keep_data=True),
        deployment.destroy(keep_data=True),
    )
    for command in refused:
        with pytest.raises(ConfigError, match="Set adopted: false"):
            asyncio.run(command)
