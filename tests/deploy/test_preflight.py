"""What preflight says of hosts that are fit, and of each way in which one is not."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from tercet.deploy.cluster.cluster import Cluster, HostSpec
from tercet.deploy.cluster.settings import EngineSettings, Listen, Paths, ServiceSettings
from tercet.deploy.facts.facts import FileFact, HostFacts, UnitFact
from tercet.deploy.facts.preflight import examine, wanted
from tercet.deploy.facts.preflight_checks import (
    CHECKS,
    Finding,
    HostContext,
    check_clock,
    check_disk_latency,
    check_local_clock,
)
from tercet.deploy.ssh.connections import connected
from tests.deploy.sshd import Operator
from tests.support.ports import free_port

SPECS = tuple(HostSpec(name=f"node{number}", address=f"192.0.2.{number}") for number in (1, 2, 3))
CLUSTER = Cluster(name="test", path=Path("cluster.yaml"), hosts=SPECS)
ABSENT = FileFact(kind="absent")
PATHS = ("/opt/tercet", "/opt/etcd", "/etc/etcd/cert", "/var/lib/etcd", "/var/backups/etcd", "/wal", "/bin")
OURS = {2379: "unit etcd.service", 2380: "unit etcd.service"}
FIT = HostFacts(
    hostname="kube-node1",
    os_name="Debian GNU/Linux 12 (bookworm)",
    arch="x86_64",
    python=(3, 11, 2),
    systemd=252,
    is_root=True,
    clock_offset_seconds=0.1,
    clock_error_seconds=0.05,
    files=dict.fromkeys(PATHS, ABSENT),
    unit=UnitFact(load="not-found"),
    users=frozenset({"etcd"}),
    groups=frozenset({"etcd"}),
    listeners={},
    disk_free={"/var/lib/etcd": 100 << 30, "/opt/tercet": 100 << 30, "/opt/etcd": 100 << 30},
    fdatasync_seconds=(0.001, 0.002, 0.009),
    reached={"192.0.2.2:2380": "", "192.0.2.3:2380": ""},
    addresses=frozenset({"192.0.2.1"}),
)
ETCD = replace(CLUSTER, engine=EngineSettings(kind="etcd"), paths=Paths(install="/opt/etcd"))
DATA = FileFact(kind="directory", owner="etcd", size=1)


def with_files(**files: FileFact) -> HostFacts:
    names = {"data": "/var/lib/etcd", "wal": "/wal", "install": "/opt/tercet", "bin": "/bin"}
    return replace(FIT, files={**FIT.files, **{names[name]: fact for name, fact in files.items()}})


def findings(facts: HostFacts, cluster: Cluster = CLUSTER, *, clock: float = 0.1) -> list[Finding]:
    context = HostContext(cluster, cluster.hosts[0], facts, clock)
    return [finding for check in CHECKS for finding in check(context)]


def test_a_host_that_is_fit() -> None:
    text = findings(FIT)
    assert {finding.level for finding in text} == {"ok"}
    assert {finding.host for finding in text} == {"node1"}
    assert [f"{finding.check}: {finding.text}" for finding in text] == [
        "ssh: connected, root on kube-node1",
        "system: Debian GNU/Linux 12 (bookworm), x86_64",
        "systemd: systemd 252",
        "python: Python 3.11.2",
        "clock: within 0.05 s of the other hosts",
        "address: 192.0.2.1 is local",
        "ports: 2379, 2380 free",
        "user: etcd:etcd",
        "directories: will be created",
        "disk: 100 GiB free for /var/lib/etcd",
        "fdatasync: fdatasync takes 2.0 ms, at most 9.0 ms",
        "peers: other hosts reachable on port 2380",
    ]


PROBLEMS: list[tuple[str, HostFacts, Cluster, str]] = [
    ("not root", replace(FIT, is_root=False), CLUSTER, "error sudo: commands do not run as root, even with sudo"),
    ("architecture", replace(FIT, arch="riscv64"), CLUSTER, "error system: tercet does not support riscv64"),
    ("no systemd", replace(FIT, systemd=0), CLUSTER, "error systemd: systemd is not the init system"),
    ("old systemd", replace(FIT, systemd=219), CLUSTER, "error systemd: systemd 219 is too old"),
    ("masked", replace(FIT, unit=UnitFact(load="masked")), CLUSTER, "error systemd: etcd.service is masked"),
    ("no Python", replace(FIT, python=None), CLUSTER, "error python: python3 not found"),
    ("old Python", replace(FIT, python=(3, 9, 2)), CLUSTER, "error python: python3 is Python 3.9.2, tercet requires 3.11"),
    (
        "clock far off",
        replace(FIT, clock_offset_seconds=-86.4),
        CLUSTER,
        "error clock: clock is 86.4 s behind this machine: new certificates may not be valid on the host",
    ),
    (
        "clock off",
        replace(FIT, clock_offset_seconds=2.6),
        CLUSTER,
        "warning clock: clock is 2.5 s ahead of the other hosts",
    ),
    (
        "address",
        replace(FIT, addresses=frozenset()),
        CLUSTER,
        "error address: 192.0.2.1 is not an address of this host, so the member cannot listen on it",
    ),
    (
        "port taken",
        replace(FIT, listeners={2380: "unit consul.service", 2379: "process nginx (pid 7)"}),
        CLUSTER,
        "error ports: port 2379 is in use by process nginx (pid 7)",
    ),
    (
        "metrics port taken",
        replace(FIT, listeners={2381: "unit consul.service"}),
        replace(CLUSTER, listen=Listen(metrics_url="http://0.0.0.0:2381")),
        "error ports: port 2381 is in use by consul.service",
    ),
    (
        "no user",
        replace(FIT, users=frozenset(), groups=frozenset()),
        replace(CLUSTER, service=ServiceSettings(create_user=False)),
        "error user: user etcd and group etcd not found",
    ),
    (
        "file instead of a directory",
        with_files(bin=FileFact(kind="file")),
        replace(CLUSTER, paths=Paths(bin="/bin")),
        "error directories: /bin is a file, not a directory",
    ),
    (
        "data of another user",
        with_files(data=replace(DATA, owner="k8s")),
        CLUSTER,
        "error directories: /var/lib/etcd is not empty and owned by k8s: a member running as etcd could not use it",
    ),
    (
        "WAL of another user",
        with_files(wal=replace(DATA, owner="root")),
        replace(CLUSTER, paths=Paths(wal="/wal")),
        "error directories: /wal is not empty and owned by root: a member running as etcd could not use it",
    ),
    (
        "existing data",
        with_files(data=DATA),
        CLUSTER,
        "warning directories: /var/lib/etcd has data, but there is no etcd.service: the member will start from this data",
    ),
    (
        "full disk",
        replace(FIT, disk_free={**FIT.disk_free, "/var/lib/etcd": 100 << 20}),
        CLUSTER,
        "error disk: 100 MiB free for /var/lib/etcd, at least 256 MiB required",
    ),
    (
        "full install disk",
        replace(FIT, disk_free={**FIT.disk_free, "/opt/tercet": 1 << 20}),
        CLUSTER,
        "error disk: 1 MiB free for /opt/tercet, at least 128 MiB required",
    ),
    (
        "small disk",
        replace(FIT, disk_free={**FIT.disk_free, "/var/lib/etcd": 3 << 29}),
        CLUSTER,
        "warning disk: 1.5 GiB free for /var/lib/etcd, less than the quota of 8.0 GiB",
    ),
    (
        "slow disk",
        replace(FIT, fdatasync_seconds=(0.011, 0.015, 0.090)),
        CLUSTER,
        "warning fdatasync: fdatasync takes 15.0 ms, at most 90.0 ms: the recommended maximum is 10 ms",
    ),
    (
        "no disk",
        replace(FIT, fdatasync_seconds=()),
        CLUSTER,
        "warning fdatasync: the disk of /var/lib/etcd could not be measured",
    ),
    (
        "filtered",
        replace(FIT, reached={**FIT.reached, "192.0.2.3:2380": "no answer within 3 s"}),
        CLUSTER,
        "error peers: cannot reach node3 on 192.0.2.3:2380: no answer within 3 s",
    ),
]


@pytest.mark.parametrize(
    ("facts", "cluster", "text"), [problem[1:] for problem in PROBLEMS], ids=[problem[0] for problem in PROBLEMS]
)
def test_every_problem_is_found_and_has_a_remedy(facts: HostFacts, cluster: Cluster, text: str) -> None:
    wrong = [finding for finding in findings(facts, cluster) if finding.level != "ok"]
    assert text in [f"{finding.level} {finding.check}: {finding.text}" for finding in wrong]
    assert all(finding.remedy for finding in wrong)
    assert len({finding.check for finding in wrong}) == 1, "a problem is reported by one check only"


PASSING: list[tuple[str, HostFacts, Cluster, str]] = [
    (
        "ports of the running member",
        replace(FIT, listeners={2379: "unit etcd.service", 2380: "unit etcd.service"}),
        CLUSTER,
        "2379, 2380 in use by the member",
    ),
    ("etcd needs no Python", replace(FIT, python=None), ETCD, "Debian GNU/Linux 12 (bookworm), x86_64"),
    ("etcd is built for more", replace(FIT, arch="s390x"), ETCD, "Debian GNU/Linux 12 (bookworm), s390x"),
    ("a user to be created", replace(FIT, users=frozenset()), CLUSTER, "user etcd will be created"),
    ("an empty directory of root", with_files(data=FileFact(kind="directory", owner="root")), CLUSTER, "no conflicts"),
    ("a running member's data", replace(with_files(data=DATA), unit=UnitFact(load="loaded")), CLUSTER, "no conflicts"),
    ("symlinked data directory", with_files(data=FileFact(kind="link", owner="root", target="/mnt")), CLUSTER, "no conflicts"),
    (
        "clock within the measurement error",
        replace(FIT, clock_offset_seconds=1.5, clock_error_seconds=1.0),
        CLUSTER,
        "within 1.40 s",
    ),
]


@pytest.mark.parametrize(("facts", "cluster", "text"), [case[1:] for case in PASSING], ids=[case[0] for case in PASSING])
def test_harmless_states_pass(facts: HostFacts, cluster: Cluster, text: str) -> None:
    found = findings(facts, cluster)
    assert [finding for finding in found if finding.level != "ok"] == []
    assert any(finding.text.startswith(text) for finding in found)


def test_all_problems_are_reported_at_once() -> None:
    facts = replace(FIT, systemd=0, python=None, addresses=frozenset(), listeners={2379: "process a (pid 1)"}, reached={})
    wrong = [finding.check for finding in findings(facts) if finding.level == "error"]
    assert wrong == ["systemd", "python", "address", "ports", "peers", "peers"]


def test_a_wrong_local_clock_is_not_a_warning_per_host() -> None:
    facts = replace(FIT, clock_offset_seconds=20.0)
    assert [finding for finding in findings(facts, clock=20.1) if finding.level != "ok"] == []


def test_a_local_clock_that_differs_from_all_hosts_is_one_error() -> None:
    finding = check_local_clock([86.2, 86.4, 86.3], 0.1)
    assert finding is not None
    assert (finding.host, finding.check, finding.level, finding.purpose) == ("local", "clock", "error", "certificates")
    assert finding.text.startswith("the clock of this machine is 86.3 s behind all hosts")
    context = HostContext(CLUSTER, SPECS[0], replace(FIT, clock_offset_seconds=86.4), 86.3, is_local_clock_off=True)
    assert [one.level for one in check_clock(context)] == ["ok"]
    assert check_local_clock([86.4], 0.1) is None  # with one host, either clock may be wrong
    assert check_local_clock([86.4, 0.0, 0.1], 0.1) is None  # one host is wrong
    assert check_local_clock([20.0, 20.1, 20.2], 0.1) is None  # too little for certificates


def test_the_disk_of_a_running_member_is_measured_on_request_only() -> None:
    running = replace(FIT, unit=UnitFact(load="loaded", active="active"), fdatasync_seconds=())
    assert list(check_disk_latency(HostContext(CLUSTER, SPECS[0], running, 0.1))) == []
    assert wanted(CLUSTER, SPECS[0]).fdatasync == "/var/lib/etcd"


def test_requested_facts() -> None:
    paths = Paths(wal="/wal", bin="/opt/k8s/bin")
    asked = wanted(replace(CLUSTER, paths=paths), SPECS[0])
    assert asked.fdatasync == "/wal"
    assert asked.reach == (("192.0.2.2", 2380), ("192.0.2.3", 2380))
    assert {"/wal", "/opt/k8s/bin", "/var/lib/etcd"} <= set(asked.paths)
    assert asked.ports == (2379, 2380)


def test_unreachable_hosts_are_findings(operator: Operator, tmp_path: Path) -> None:
    """One host answers, one has no sshd, one rejects the login."""
    here = str(tmp_path / "here")
    cluster = replace(
        operator.cluster(
            operator.spec("node1"),
            operator.spec("node2", port=free_port()),
            operator.spec("node3", user="nobody-of-this-name"),
        ),
        paths=Paths(data=here, install=f"{here}-install", certificates=f"{here}-cert", backups=f"{here}-backups"),
        listen=Listen(client_port=free_port(), peer_port=operator.sshd.port),
    )

    async def scenario() -> list[Finding]:
        async with connected(cluster) as hosts:
            return list((await examine(cluster, hosts)).findings)

    text = asyncio.run(asyncio.wait_for(scenario(), 60))
    assert list(dict.fromkeys(finding.host for finding in text)) == ["node1", "node2", "node3"]
    by_check = {finding.check: finding for finding in text if finding.host == "node1"}
    assert by_check["address"].level == by_check["peers"].level == "ok"
    assert by_check["fdatasync"].level in ("ok", "warning"), "on a busy machine a sync takes long"
    assert "could not be measured" not in by_check["fdatasync"].text
    assert (by_check["ports"].level, by_check["ports"].text[:5]) == ("error", "port ")
    (node2,) = (finding for finding in text if finding.host == "node2")
    assert (node2.check, node2.level, node2.text.endswith(": connection refused")) == ("ssh", "error", True)
    (node3,) = (finding for finding in text if finding.host == "node3")
    assert (node3.check, node3.level, "permission denied" in node3.text) == ("ssh", "error", True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home"], "nothing was changed"
