"""What preflight says of hosts that are fit, and of each way in which one is not."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from tercet.deploy.cluster.cluster import Cluster, HostSpec
from tercet.deploy.cluster.settings import EngineSettings, Listen, Paths, ServiceSettings
from tercet.deploy.facts.facts import FileFact, HostFacts, UnitFact
from tercet.deploy.facts.preflight import preflight, wanted
from tercet.deploy.facts.preflight_checks import CHECKS, Finding, Question
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
    os_id="debian",
    os_version="12",
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
    question = Question(cluster, cluster.hosts[0], facts, clock)
    return [finding for check in CHECKS for finding in check(question)]


def test_a_host_that_is_fit() -> None:
    said = findings(FIT)
    assert {finding.level for finding in said} == {"ok"}
    assert {finding.host for finding in said} == {"node1"}
    assert [f"{finding.check}: {finding.text}" for finding in said] == [
        "ssh: connected, root on kube-node1",
        "system: Debian GNU/Linux 12 (bookworm), x86_64",
        "systemd: systemd 252",
        "python: Python 3.11.2",
        "clock: within 0.05 s of the others",
        "address: 192.0.2.1 is this host's",
        "ports: 2379, 2380 free",
        "user: etcd:etcd",
        "directories: will be made",
        "disk: 100 GiB free for /var/lib/etcd",
        "fdatasync: fdatasync takes 2.0 ms, at most 9.0 ms",
        "peers: reaches the others on port 2380",
    ]


FAULTS: list[tuple[str, HostFacts, Cluster, str]] = [
    ("not root", replace(FIT, is_root=False), CLUSTER, "error sudo: commands do not run as root, even with sudo"),
    ("architecture", replace(FIT, arch="riscv64"), CLUSTER, "error system: there is no tercet for riscv64"),
    ("no systemd", replace(FIT, systemd=0), CLUSTER, "error systemd: systemd does not run this host"),
    ("old systemd", replace(FIT, systemd=219), CLUSTER, "error systemd: systemd 219 is too old"),
    ("masked", replace(FIT, unit=UnitFact(load="masked")), CLUSTER, "error systemd: etcd.service is masked"),
    ("no Python", replace(FIT, python=None), CLUSTER, "error python: there is no python3"),
    ("old Python", replace(FIT, python=(3, 9, 2)), CLUSTER, "error python: python3 is Python 3.9.2, tercet needs 3.11"),
    (
        "clock far off",
        replace(FIT, clock_offset_seconds=-86.4),
        CLUSTER,
        "error clock: its clock is 86.4 s behind this machine's: certificates made here may not be valid there",
    ),
    (
        "clock off",
        replace(FIT, clock_offset_seconds=2.6),
        CLUSTER,
        "warning clock: its clock is 2.5 s ahead of the other hosts'",
    ),
    (
        "address",
        replace(FIT, addresses=frozenset()),
        CLUSTER,
        "error address: 192.0.2.1 is not an address of this host: the member could not listen on it",
    ),
    (
        "port taken",
        replace(FIT, listeners={2380: "unit consul.service", 2379: "process nginx (pid 7)"}),
        CLUSTER,
        "error ports: port 2379 is taken by process nginx (pid 7)",
    ),
    (
        "metrics port taken",
        replace(FIT, listeners={2381: "unit consul.service"}),
        replace(CLUSTER, listen=Listen(metrics_url="http://0.0.0.0:2381")),
        "error ports: port 2381 is taken by consul.service",
    ),
    (
        "no user",
        replace(FIT, users=frozenset(), groups=frozenset()),
        replace(CLUSTER, service=ServiceSettings(create_user=False)),
        "error user: there is no user etcd and no group etcd",
    ),
    (
        "a file in the way",
        with_files(bin=FileFact(kind="file")),
        replace(CLUSTER, paths=Paths(bin="/bin")),
        "error directories: /bin is a file, not a directory",
    ),
    (
        "another's data",
        with_files(data=replace(DATA, owner="k8s")),
        CLUSTER,
        "error directories: /var/lib/etcd belongs to k8s and is not empty: a member that runs as etcd could not use it",
    ),
    (
        "another's log",
        with_files(wal=replace(DATA, owner="root")),
        replace(CLUSTER, paths=Paths(wal="/wal")),
        "error directories: /wal belongs to root and is not empty: a member that runs as etcd could not use it",
    ),
    (
        "data from before",
        with_files(data=DATA),
        CLUSTER,
        "warning directories: /var/lib/etcd has data from before, and no etcd.service: the member will go on with it",
    ),
    (
        "full disk",
        replace(FIT, disk_free={**FIT.disk_free, "/var/lib/etcd": 100 << 20}),
        CLUSTER,
        "error disk: 100 MiB free for /var/lib/etcd, at least 256 MiB are needed",
    ),
    (
        "no room for the engine",
        replace(FIT, disk_free={**FIT.disk_free, "/opt/tercet": 1 << 20}),
        CLUSTER,
        "error disk: 1 MiB free for /opt/tercet, at least 128 MiB are needed",
    ),
    (
        "small disk",
        replace(FIT, disk_free={**FIT.disk_free, "/var/lib/etcd": 3 << 29}),
        CLUSTER,
        "warning disk: 1.5 GiB free for /var/lib/etcd, while the store may grow to 8.0 GiB",
    ),
    (
        "slow disk",
        replace(FIT, fdatasync_seconds=(0.011, 0.015, 0.090)),
        CLUSTER,
        "warning fdatasync: fdatasync takes 15.0 ms, at most 90.0 ms: more than the 10 ms that a member needs to keep up",
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


@pytest.mark.parametrize(("facts", "cluster", "said"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS])
def test_a_fault_is_found_and_has_a_remedy(facts: HostFacts, cluster: Cluster, said: str) -> None:
    wrong = [finding for finding in findings(facts, cluster) if finding.level != "ok"]
    assert said in [f"{finding.level} {finding.check}: {finding.text}" for finding in wrong]
    assert all(finding.remedy for finding in wrong)
    assert len({finding.check for finding in wrong}) == 1, "a fault of one kind is not told as another"


FINE: list[tuple[str, HostFacts, Cluster, str]] = [
    (
        "our own ports",
        replace(FIT, listeners={2379: "unit etcd.service", 2380: "unit etcd.service"}),
        CLUSTER,
        "2379, 2380 ours",
    ),
    ("etcd needs no Python", replace(FIT, python=None), ETCD, "Debian GNU/Linux 12 (bookworm), x86_64"),
    ("etcd is built for more", replace(FIT, arch="s390x"), ETCD, "Debian GNU/Linux 12 (bookworm), s390x"),
    ("a user to be made", replace(FIT, users=frozenset()), CLUSTER, "user etcd will be made"),
    ("an empty directory of root", with_files(data=FileFact(kind="directory", owner="root")), CLUSTER, "nothing in the way"),
    ("a running member's data", replace(with_files(data=DATA), unit=UnitFact(load="loaded")), CLUSTER, "nothing in the way"),
    ("data behind a link", with_files(data=FileFact(kind="link", owner="root", target="/mnt")), CLUSTER, "nothing in the way"),
    (
        "a clock as good as can be known",
        replace(FIT, clock_offset_seconds=1.5, clock_error_seconds=1.0),
        CLUSTER,
        "within 1.40 s",
    ),
]


@pytest.mark.parametrize(("facts", "cluster", "said"), [case[1:] for case in FINE], ids=[case[0] for case in FINE])
def test_what_only_looks_like_a_fault(facts: HostFacts, cluster: Cluster, said: str) -> None:
    found = findings(facts, cluster)
    assert [finding for finding in found if finding.level != "ok"] == []
    assert any(finding.text.startswith(said) for finding in found)


def test_everything_that_is_wrong_is_told_at_once() -> None:
    facts = replace(FIT, systemd=0, python=None, addresses=frozenset(), listeners={2379: "process a (pid 1)"}, reached={})
    wrong = [finding.check for finding in findings(facts) if finding.level == "error"]
    assert wrong == ["systemd", "python", "address", "ports", "peers", "peers"]


def test_one_operators_wrong_clock_is_not_three_warnings() -> None:
    facts = replace(FIT, clock_offset_seconds=20.0)
    assert [finding for finding in findings(facts, clock=20.1) if finding.level != "ok"] == []


def test_what_is_asked_of_a_host() -> None:
    paths = Paths(wal="/wal", bin="/opt/k8s/bin")
    asked = wanted(replace(CLUSTER, paths=paths), SPECS[0])
    assert asked.fdatasync == "/wal"
    assert asked.reach == (("192.0.2.2", 2380), ("192.0.2.3", 2380))
    assert {"/wal", "/opt/k8s/bin", "/var/lib/etcd"} <= set(asked.paths)
    assert asked.ports == (2379, 2380)


def test_of_real_hosts_in_the_files_order(operator: Operator, tmp_path: Path) -> None:
    """One answers, one has no sshd, one has another key: each is told as what it is, none keeps the others from being asked."""
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
            return await preflight(cluster, hosts)

    said = asyncio.run(asyncio.wait_for(scenario(), 30))
    assert list(dict.fromkeys(finding.host for finding in said)) == ["node1", "node2", "node3"]
    by_check = {finding.check: finding for finding in said if finding.host == "node1"}
    assert by_check["address"].level == by_check["fdatasync"].level == by_check["peers"].level == "ok"
    assert (by_check["ports"].level, by_check["ports"].text[:5]) == ("error", "port ")
    (node2,) = (finding for finding in said if finding.host == "node2")
    assert (node2.check, node2.level, node2.text.endswith("refuses the connection")) == ("ssh", "error", True)
    (node3,) = (finding for finding in said if finding.host == "node3")
    assert (node3.check, node3.level, "permission denied" in node3.text) == ("ssh", "error", True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home"], "nothing was changed"
