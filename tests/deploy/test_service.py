"""A unit is started: until it is ready, or until it is clear that it will not be, and then why."""

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


def test_a_member_that_becomes_ready() -> None:
    host = ScriptedHost("m1", before=STOPPED, after=(STARTING, STARTING, RUNNING))
    assert started(host, cluster_of(3)).startswith("ready in ")
    assert any("systemctl restart --no-block etcd.service" in command for command in host.commands)


def test_that_it_ran_before_does_not_count() -> None:
    """Right after a restart was asked for, the unit is still the old one, and active."""
    host = ScriptedHost("m1", before=RUNNING, after=(f"{RUNNING} InvocationID=old", STARTING, RUNNING))
    started(host, cluster_of(3))
    looks = [command for command in host.commands if command.startswith("systemctl show")]
    assert len(looks) == 4


def test_one_failure_is_given_another_try_and_two_are_told_with_the_journal() -> None:
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
        "m1: start: etcd.service failed (exit code 3), the journal's last lines:\n  Starting\n  the cellar is flooded\n"
        "more of it: tercet deploy logs m1; run apply again when it is repaired"
    )


def test_a_member_that_never_becomes_ready_is_not_waited_for_for_ever() -> None:
    host = ScriptedHost("m2", before=STOPPED, after=(STARTING,), journal="waiting for peers")
    with pytest.raises(HostError, match=r"^m2: start: etcd.service is not ready after 1 s .*activating/start") as caught:
        started(host, cluster_of(3, start_timeout=1))
    assert "waiting for peers" in str(caught.value)


def test_systemd_s_own_patience_is_told_in_the_same_words() -> None:
    failed = FAILED.replace("exit-code", "timeout")
    host = ScriptedHost("m2", before=STOPPED, after=(f"{failed} NRestarts=1",))
    with pytest.raises(HostError, match=r"did not become ready in the time that systemd allows"):
        started(host, cluster_of(3))


def test_a_bad_certificate_is_explained_by_the_host_s_own_clock(tmp_path: Path) -> None:
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
    assert f"{paths['server']}: it is for" in text
    assert "not for 10.0.0.1" in text
    assert f"{paths['peer']}: it ended on" in text
    days = asyncio.run(certificate_days(cast(Host, host), cluster))
    assert days is not None
    real = (host_time - timedelta(days=35) - datetime.now(UTC)) / timedelta(days=1)
    assert days == pytest.approx(real, abs=0.1)


def test_without_certificates_on_the_host_there_is_no_end_of_them(tmp_path: Path) -> None:
    host = cast(Host, ScriptedHost("m1"))
    assert asyncio.run(certificate_days(host, cluster_of(1, tmp_path / "cluster.yaml", tls=True))) is None
    assert asyncio.run(certificate_days(host, cluster_of(1, tls=False))) is None


def test_a_unit_that_is_not_there_need_not_be_stopped() -> None:
    gone = ScriptedHost("m1", before="LoadState=not-found ActiveState=inactive SubState=dead")
    assert asyncio.run(stop(cast(Host, gone), "etcd.service")) == "unchanged"
    assert len(gone.commands) == 1
    there = ScriptedHost("m1")
    assert asyncio.run(stop(cast(Host, there), "etcd.service")) == ""
    assert there.commands[1].startswith("systemctl stop etcd.service && ")
