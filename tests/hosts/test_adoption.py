"""A running cluster that others have deployed: adopted as it is, then taken over under a writer; the tests run in order."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hosts.days_after import invocations, under_writes
from tests.hosts.foreign import KUBESPRAY, MANUAL, Layout
from tests.hosts.network import HOSTS
from tests.hosts.observations import files
from tests.hosts.session import Operator, release_tarball

pytestmark = [pytest.mark.timeout(600, func_only=True), pytest.mark.long]


@pytest.fixture(scope="module", params=[MANUAL, KUBESPRAY], ids=lambda layout: layout.name)
def layout(operator: Operator, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """Fresh hosts on which the cluster of this layout serves."""
    found: Layout = request.param
    operator.lab.up()
    operator.directory = tmp_path_factory.mktemp("adoption")
    found.install(operator)
    return found


def test_adoption_changes_nothing_on_the_hosts(operator: Operator, layout: Layout) -> None:
    before = {host: files(operator, host) for host in HOSTS}, invocations(operator)
    operator.deploy("init", *(word for name in layout.imports for word in ("--from", name)))
    needs_ca = operator.deploy("plan", exit_code=1)
    assert "set tls.ca_certificate and tls.ca_key" in needs_ca
    operator.edit(lambda settings: settings.setdefault("tls", {}).update(ca_certificate="ca.pem", ca_key="ca-key.pem"))
    applied = operator.deploy("apply", "--yes")
    assert [line.split() for line in applied.lines if "  done" in line] == [
        ["local", "create", "operator", "certificate", "done"]
    ]
    assert "adopted hosts stay as they are" in operator.deploy("plan", "--detailed-exitcode")
    assert ({host: files(operator, host) for host in HOSTS}, invocations(operator)) == before


def test_an_adopted_cluster_is_operated(operator: Operator, layout: Layout) -> None:
    """Whatever needs the members only."""
    assert len(operator.healthy_lines()) == 3
    status = operator.deploy("status")
    for name in layout.members().values():
        [line] = [line for line in status.lines if f" {name} " in line]
        assert "active/running" in line
        assert "299 days" in line, "the certificate that the member has now"
    assert layout.members()["kube-node3"] in operator.deploy("logs")
    operator.deploy("backup", "--to", "saved")
    with under_writes(operator):
        operator.deploy("compact", "--keep", "10", "--yes")
        operator.deploy("defrag", "--all", "--yes")
        operator.deploy("restart")
    for verb in (("certs", "rotate"), ("upgrade",), ("member", "replace", layout.members()["kube-node3"]), ("destroy",)):
        assert "Set adopted: false" in operator.deploy(*verb, "--yes", exit_code=1)


def test_a_setting_that_is_not_applied_is_reported(operator: Operator, layout: Layout) -> None:
    kept = (operator.directory / "cluster.yaml").read_text()
    operator.set("flags", {"heartbeat-interval": "300", "election-timeout": "5000", "max-txn-ops": "256"})
    said = operator.deploy("plan")
    first = layout.members()["kube-node1"]
    assert f"{first}: the member runs with heartbeat-interval 250, the file has 300; adopted hosts are not changed" in said
    assert f"{first}: the member runs without max-txn-ops, the file has 256; adopted hosts are not changed" in said
    operator.write("cluster.yaml", kept)


def test_the_hosts_are_taken_over_member_by_member(operator: Operator, layout: Layout) -> None:
    tarball = release_tarball(operator.directory)
    operator.edit(lambda settings: settings.update(adopted=False))
    operator.set("engine", {"source": tarball.name})
    with under_writes(operator):
        operator.deploy("apply", "--yes", timeout=300)
    assert len(operator.healthy_lines()) == 3
    assert "nothing to do" in operator.deploy("plan").output.lower()
    for host in HOSTS:
        flags = Path(operator.machine(host).root, "etc/systemd/system/etcd.service").read_text()
        assert "--heartbeat-interval=250" in flags
        assert "--election-timeout=5000" in flags
