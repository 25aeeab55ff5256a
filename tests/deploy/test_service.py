"""Starting a unit: wait until it is ready or has failed, and report why."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest

from tercet.deploy.cluster.cluster import Cluster
from tercet.deploy.cluster.member_flags import certificate_files
from tercet.deploy.members.service import certificate_days, start, stop
from tercet.deploy.plan.certificates import ensure_certificates
from tercet.deploy.ssh.host_error import HostError
from tercet.deploy.ssh.remote import Host
from tests.deploy.scripted_host import FAILED, RUNNING, STARTING, STOPPED, ScriptedHost, cluster_of


def started(host: ScriptedHost, cluster: Cluster) -> str:
    return asyncio.run(start(cast(Host, host), cluster))


def test_start_waits_until_ready() -> None:
    host = ScriptedHost("m1", before=STOPPED, after=(STARTING, STARTING, RUNNING))
    assert started(host, cluster_of(3)).startswith("ready in ")
    assert any("systemctl restart --no-block etcd.service" in command for command in host.commands)


def test_the_previous_invocation_does_not_count() -> None:
    """Right after the restart command the old invocation is still active."""
    host = ScriptedHost("m1", before=RUNNING, after=(f"{RUNNING} InvocationID=old", STARTING, RUNNING))
    started(host, cluster_of(3))
    looks = [command for command in host.commands if command.startswith("systemctl show")]
    assert len(looks) == 4


def test_the_second_failure_is_reported_with_the_journal() -> None:
    once = ScriptedHost("m1", before=STOPPED, after=(f"{FAILED} NRestarts=0", f"{STARTING} NRestarts=1", RUNNING))
    started(once, cluster_of(3))

    twice = ScriptedHost(
        "m1",
        before=STOPPED,
        after=(f"{FAILED} NRestarts=0", f"{STARTING} NRestarts=1", f"{FAILED} NRestarts=1"),
        journal="Starting\nthe cellar is flooded\n",
    )
    with pytest.raises(HostError) as caught:
        started(twice, cluster_of(3))
    assert str(caught.value) == (
        "m1: start: etcd.service failed (exit code 3); last journal lines:\n  Starting\n  the cellar is flooded\n"
        "see `tercet deploy logs m1`; rerun apply after fixing the cause"
    )


def test_the_wait_for_a_member_has_a_timeout() -> None:
    host = ScriptedHost("m2", before=STOPPED, after=(STARTING,), journal="waiting for peers")
    with pytest.raises(HostError, match=r"^m2: start: etcd.service is activating/start, not ready after 1 s") as caught:
        started(host, cluster_of(3, start_timeout=1))
    assert "waiting for peers" in str(caught.value)


def test_a_member_that_loads_a_large_database_is_waited_for() -> None:
    loading = f"{STARTING} StatusText=loading the database"
    host = ScriptedHost("m2", before=STOPPED, after=(*[loading] * 8, STARTING, RUNNING))
    assert started(host, cluster_of(3, start_timeout=1)).startswith("ready in ")


def test_systemds_start_timeout_is_reported() -> None:
    failed = FAILED.replace("exit-code", "timeout")
    host = ScriptedHost("m2", before=STOPPED, after=(f"{failed} NRestarts=1",))
    with pytest.raises(HostError, match=r"did not become ready within systemd's start timeout"):
        started(host, cluster_of(3))


def test_certificate_failures_are_explained_by_the_hosts_clock(tmp_path: Path) -> None:
    cluster = cluster_of(2, tmp_path / "cluster.yaml", tls=True)
    host = ScriptedHost(
        "m1", before=STOPPED, after=(f"{FAILED} NRestarts=1",), journal="tls: bad certificate: rejected connection"
    )
    host_time = datetime.fromtimestamp(1_800_000_000, UTC)
    certificates = ensure_certificates(cluster, now=host_time - timedelta(days=400))
    assert certificates.ca is not None
    assert certificates.peer_ca is not None
    paths = certificate_files(cluster)
    host.files = {
        paths["ca"]: certificates.ca.pem or b"",
        paths["peer-ca"]: certificates.peer_ca.pem or b"",
        paths["server"]: certificates.servers["m2"].pem or b"",
        paths["peer"]: certificates.peers["m1"].pem or b"",
    }
    with pytest.raises(HostError) as caught:
        started(host, cluster)
    text = str(caught.value)
    assert f"{paths['server']}: it is valid for" in text
    assert "not for 10.0.0.1" in text
    assert f"{paths['peer']}: it expired on" in text
    days = asyncio.run(certificate_days(cast(Host, host), cluster))
    assert days is not None
    real = (host_time - timedelta(days=35) - datetime.now(UTC)) / timedelta(days=1)
    assert days == pytest.approx(real, abs=0.1)


def test_without_certificates_there_is_no_expiry(tmp_path: Path) -> None:
    host = cast(Host, ScriptedHost("m1"))
    assert asyncio.run(certificate_days(host, cluster_of(1, tmp_path / "cluster.yaml", tls=True))) is None
    assert asyncio.run(certificate_days(host, cluster_of(1, tls=False))) is None


def test_stopping_a_missing_unit_is_a_no_op() -> None:
    gone = ScriptedHost("m1", before="LoadState=not-found ActiveState=inactive SubState=dead")
    assert asyncio.run(stop(cast(Host, gone), "etcd.service")) == "unchanged"
    assert len(gone.commands) == 1
    there = ScriptedHost("m1")
    assert asyncio.run(stop(cast(Host, there), "etcd.service")) == ""
    assert there.commands[1].startswith("systemctl stop etcd.service && ")
