"""Renewal and rotation of certificates and CAs: stages, what is trusted at each of them, and continuation."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest

from tercet.deploy.cluster.cluster import Cluster
from tercet.deploy.cluster.settings import TlsSettings
from tercet.deploy.facts.preflight import Examined
from tercet.deploy.members.members import Members
from tercet.deploy.plan.ca_rotation import authorities, conclude, introduce, is_rotating, require_one_ca
from tercet.deploy.plan.certificates import Certificates, create, ensure_certificates, inspect
from tercet.deploy.plan.desired import desired
from tercet.deploy.plan.plan import Plan
from tercet.deploy.run.certificates import certificate_work
from tercet.deploy.run.executor import DeployError, silent
from tercet.deploy.run.survey import HostSurvey
from tercet.deploy.ssh.remote import Host
from tercet.errors import ConfigError
from tercet.pki import explain
from tests.deploy.clusters import artifact_of, as_wanted, changed, cluster_of
from tests.deploy.scripted_host import ScriptedHost
from tests.deploy.test_rolling import ScriptedMembers


def renewed(cluster: Cluster) -> None:
    """Sign everything with the present CAs."""
    for pair in inspect(cluster, renewal="replaced CA").pending:
        pair.certificate.unlink()
        pair.key.unlink()
    ensure_certificates(cluster)


def test_a_ca_is_replaced_while_every_certificate_is_trusted(tmp_path: Path) -> None:
    cluster = cluster_of(tmp_path)
    before = ensure_certificates(cluster)
    for pair in authorities(cluster, before):
        introduce(pair)
    both = inspect(cluster)
    assert both.ca is not None
    assert both.ca.pem is not None
    assert is_rotating(both.ca)
    assert both.pending == (), "the certificates of the replaced CA are still valid"
    renewed(cluster)
    after = inspect(cluster)
    assert after.client is not None
    assert after.client.pem is not None
    assert after.client.pem != (before.client and before.client.pem)
    assert before.client is not None
    for pem in (before.client.pem, after.client.pem):
        assert explain(pem or b"", ca_pem=both.ca.pem, usage="client") == []
    for pair in authorities(cluster, after):
        conclude(pair)
    single = inspect(cluster)
    assert single.pending == ()
    assert single.ca is not None
    assert not is_rotating(single.ca)
    assert explain(before.client.pem or b"", ca_pem=single.ca.pem or b"") != []


def test_the_replaced_ca_is_kept_and_its_key_private(tmp_path: Path) -> None:
    cluster = cluster_of(tmp_path)
    certificates = ensure_certificates(cluster)
    assert certificates.ca is not None
    key, pem = certificates.ca.key.read_bytes(), certificates.ca.certificate.read_bytes()
    introduce(certificates.ca)
    made = certificates.ca.certificate.read_bytes()
    introduce(certificates.ca)  # an interrupted command is run again
    assert certificates.ca.certificate.read_bytes() == made
    kept = {path: path.read_bytes() for path in (tmp_path / "pki/replaced").iterdir()}
    assert sorted(kept.values()) == sorted([key, pem])
    assert {path.stat().st_mode & 0o777 for path, content in kept.items() if content == key} == {0o600}


def test_no_certificate_is_signed_by_a_ca_that_members_may_not_trust_yet(tmp_path: Path) -> None:
    """`apply` and `renew` in the middle of a rotation, when a certificate is due."""
    cluster = cluster_of(tmp_path)
    now = datetime.now(UTC)
    ensure_certificates(cluster, now=now - timedelta(days=350))
    for pair in authorities(cluster, inspect(cluster)):
        introduce(pair)
    with pytest.raises(ConfigError, match="certs rotate --ca"):
        require_one_ca(inspect(cluster))


def test_an_external_ca_is_not_rotated(tmp_path: Path) -> None:
    cluster = cluster_of(tmp_path)
    external = replace(cluster, tls=TlsSettings(ca_certificate=tmp_path / "ca.pem", ca_key=tmp_path / "ca-key.pem"))
    with pytest.raises(ConfigError, match=r"tls\.ca_certificate: .*managed elsewhere"):
        authorities(external, Certificates())
    with pytest.raises(ConfigError, match=r"tls\.enabled: false"):
        authorities(replace(cluster, tls=TlsSettings(enabled=False)), Certificates())
    with pytest.raises(ConfigError, match="there is no CA yet"):
        authorities(cluster, inspect(cluster))


class Rotating:
    """A running cluster whose hosts match the files on this machine."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cluster = cluster_of(tmp_path)
        ensure_certificates(self.cluster)
        self.stopped: set[str] = set()
        self.on_hosts: Certificates | None = None
        """The certificates that the hosts have; by default the present ones."""

        async def survey(cluster: Cluster, hosts: Collection[str], certificates: Certificates, *_: object) -> object:
            return {name: self._seen(name, certificates) for name in hosts}

        async def examine(*_: object) -> Examined:
            return Examined((), {})

        monkeypatch.setattr("tercet.deploy.run.certificates.survey", survey)
        monkeypatch.setattr("tercet.deploy.run.certificates.examine", examine)

    def _seen(self, name: str, certificates: Certificates) -> HostSurvey:
        artifact = artifact_of(self.cluster)
        spec = self.cluster.host(name)
        there = desired(self.cluster, spec, artifact, self.on_hosts or inspect(self.cluster))
        facts = as_wanted(self.cluster, there)
        if name in self.stopped:
            facts = replace(facts, unit=replace(facts.unit, active="inactive"))
        for file in there.authorities:
            facts = changed(facts, file.path, content=(file.content or b"").decode())
        return HostSurvey(facts, artifact, desired(self.cluster, spec, artifact, certificates))

    def plan(self, renewal: str, until: str = "all") -> Plan:
        members = ScriptedMembers(self.cluster, {}, leader="node1")
        hosts = {spec.name: cast(Host, ScriptedHost(spec.name)) for spec in self.cluster.hosts}
        work = certificate_work(self.cluster, hosts, cast(Members, members), silent)
        return asyncio.run(work.change(None, renewal=renewal, until=until, dry_run=True, locked=()))  # type: ignore[arg-type]

    def phases(self, renewal: str, until: str = "all") -> list[str]:
        return [phase.title for phase in self.plan(renewal, until).phases]


TRUST = ["new CA", "trust both", "restart"]
SIGN = ["certificates", "copy", "restart"]
CONCLUDE = ["trust the new CA", "copy", "restart", "health"]


def test_the_stages_of_a_rotation_each_restart_every_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rotating = Rotating(tmp_path, monkeypatch)
    found = rotating.plan("replaced CA")
    assert [phase.title for phase in found.phases] == TRUST + SIGN + CONCLUDE
    for phase in found.phases:
        if phase.title == "restart":
            assert sorted(step.host or "" for step in phase.steps) == ["node1", "node2", "node3"]
    assert rotating.phases("replaced CA", "trust") == TRUST
    assert rotating.phases("replaced CA", "certificates") == TRUST + SIGN


def test_an_interrupted_rotation_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rotating = Rotating(tmp_path, monkeypatch)
    before = inspect(rotating.cluster)
    for pair in authorities(rotating.cluster, before):
        introduce(pair)
    rotating.on_hosts = before  # interrupted before any host was changed
    assert rotating.phases("replaced CA") == TRUST[1:] + SIGN + CONCLUDE
    rotating.on_hosts = None  # every host trusts both
    assert rotating.phases("replaced CA") == SIGN + CONCLUDE
    assert rotating.phases("replaced CA", "trust") == []
    renewed(rotating.cluster)
    assert rotating.phases("replaced CA") == CONCLUDE
    rotating.on_hosts = both = inspect(rotating.cluster)
    for pair in authorities(rotating.cluster, both):
        conclude(pair)
    assert rotating.phases("replaced CA") == CONCLUDE[1:], "the hosts still trust the replaced CA"
    rotating.on_hosts = None
    assert rotating.phases("replaced CA") == TRUST + SIGN + CONCLUDE, "the next rotation"


def test_a_rotation_killed_between_two_cas_replaces_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rotating = Rotating(tmp_path, monkeypatch)
    rotating.on_hosts = before = inspect(rotating.cluster)
    ca, peer_ca = authorities(rotating.cluster, before)
    introduce(ca)
    found = rotating.plan("replaced CA")
    assert [phase.title for phase in found.phases] == TRUST + SIGN + CONCLUDE
    assert [step.title for step in found.phases[0].steps] == ["create new peer CA"]
    assert len(found.phases[3].steps) == 7, "the operator's certificate, and two of each member"
    introduce(peer_ca)
    renewed(rotating.cluster)
    rotating.on_hosts = both = inspect(rotating.cluster)
    conclude(authorities(rotating.cluster, both)[0])
    assert rotating.phases("replaced CA") == [*TRUST[1:], *CONCLUDE]


def test_a_ca_is_not_rotated_while_a_member_is_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rotating = Rotating(tmp_path, monkeypatch)
    rotating.stopped = {"node2"}
    with pytest.raises(DeployError, match=r"^node2: plan: etcd\.service is not running.*tercet deploy apply"):
        rotating.plan("replaced CA")


def test_renewal_takes_only_what_is_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rotating = Rotating(tmp_path, monkeypatch)
    assert rotating.phases("due") == []
    shutil.rmtree(rotating.cluster.tls.directory)
    ensure_certificates(rotating.cluster, now=datetime.now(UTC) - timedelta(days=350))
    for pair in inspect(rotating.cluster).pending:
        if pair.title != "peer certificate of node2":
            create(rotating.cluster, pair)
    found = rotating.plan("due")
    assert [(phase.title, [step.host for step in phase.steps]) for phase in found.phases] == [
        ("certificates", [None]),
        ("copy", ["node2"]),
        ("restart", ["node2"]),
        ("health", ["node2"]),
    ]
    every = rotating.plan("all")
    assert len(every.phases[0].steps) == 7, "the operator's certificate, and two of each member"
