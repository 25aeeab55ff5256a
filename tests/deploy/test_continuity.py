"""Changes of the cluster file that a started member can follow, and those that are rejected."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tercet.deploy.cluster.cluster import Cluster, HostSpec
from tercet.deploy.cluster.settings import EngineSettings, Paths, TlsSettings
from tercet.deploy.facts.facts import FileFact, HostFacts, UnitFact
from tercet.deploy.plan.continuity import check_continuity, flags_of
from tercet.errors import ConfigError

SPECS = tuple(HostSpec(name=f"node{number}", address=f"192.0.2.{number}", line=number + 1) for number in (1, 2, 3))
CLUSTER = Cluster(name="test", token="first", path=Path("cluster.yaml"), hosts=SPECS)
COMMAND = (
    "/opt/tercet/current/bin/tercet --name=node1 --data-dir=/var/lib/etcd --heartbeat-interval=100 "
    f"--initial-cluster={CLUSTER.initial_cluster()} --initial-cluster-state=new --initial-cluster-token=first "
    "--trusted-ca-file=/etc/etcd/cert/ca.pem"
)
EMPTY = FileFact(kind="directory", owner="etcd", size=0)
FILLED = FileFact(kind="directory", owner="etcd", size=1)
CA = FileFact(kind="file", sha256="aa" * 32)


def facts(
    *, data: FileFact = FILLED, active: str = "active", command: str = COMMAND, files: dict[str, FileFact] | None = None
) -> HostFacts:
    return HostFacts(
        hostname="node1",
        os_name="Debian",
        arch="x86_64",
        python=(3, 11, 2),
        systemd=252,
        is_root=True,
        clock_offset_seconds=0,
        clock_error_seconds=0,
        files={"/var/lib/etcd": data, "/etc/etcd/cert/ca.pem": CA, **(files or {})},
        unit=UnitFact(load="loaded", active=active, exec_line=command),
        users=frozenset(),
        groups=frozenset(),
        listeners={},
        disk_free={},
    )


def check(cluster: Cluster, state: HostFacts) -> dict[str, str]:
    return check_continuity(cluster, cluster.hosts[0], state, authorities={"/etc/etcd/cert/ca.pem": "aa" * 32})


def test_first_start_flags_are_kept() -> None:
    members = CLUSTER.initial_cluster()
    kept = {"initial-cluster": members, "initial-cluster-state": "new", "initial-cluster-token": "first"}
    assert check(replace(CLUSTER, flags={"heartbeat-interval": "200"}), facts()) == kept


def test_any_change_is_allowed_before_the_first_start() -> None:
    other = replace(CLUSTER, hosts=SPECS[:2], engine=EngineSettings(kind="etcd", source="e.tar.gz"))
    assert check(other, facts(data=EMPTY, active="failed")) == {}


def test_a_stopped_member_counts_as_started() -> None:
    with pytest.raises(ConfigError, match="node1 was started with"):
        check(replace(CLUSTER, hosts=MOVED), facts(active="inactive"))


def test_other_members_may_come_and_go() -> None:
    """Which members there are is asked from the cluster, not from the flags of the first start."""
    check(replace(CLUSTER, hosts=(*SPECS, HostSpec(name="node4", address="192.0.2.4"))), facts())
    check(replace(CLUSTER, hosts=SPECS[:2]), facts())


MOVED = (replace(SPECS[0], address="192.0.2.9"), *SPECS[1:])
CHANGES: list[tuple[str, Cluster, str]] = [
    (
        "address changed",
        replace(CLUSTER, hosts=MOVED),
        "node1 was started with https://192.0.2.1:2380, and the file has https://192.0.2.9:2380",
    ),
    (
        "TLS disabled",
        replace(CLUSTER, tls=TlsSettings(enabled=False)),
        "started with https://192.0.2.1:2380, and the file has http://192.0.2.1:2380",
    ),
    ("engine changed", replace(CLUSTER, engine=EngineSettings(kind="etcd", source="e")), "was written by tercet"),
    (
        "token changed",
        replace(CLUSTER, token="second"),
        "token: node1 was first started with first, the file has second. a member that starts from an empty disk",
    ),
    (
        "cluster renamed, and the token with it",
        replace(CLUSTER, name="third", token="third"),
        "started with first, the file has third (the default, the cluster's name). a member",
    ),
    (
        "data directory changed",
        replace(CLUSTER, paths=Paths(data="/data")),
        "the data of node1 is in /var/lib/etcd, and /data is empty",
    ),
    (
        "WAL directory changed",
        replace(CLUSTER, paths=Paths(wal="/wal")),
        "paths.wal: the data of node1 is in /var/lib/etcd, and /wal is empty",
    ),
]


@pytest.mark.parametrize(("cluster", "text"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES])
def test_unsupported_changes_are_rejected(cluster: Cluster, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check(cluster, facts())
    text_of_error = str(caught.value)
    assert text_of_error.startswith("cluster.yaml:2: ")
    assert text in text_of_error
    assert "\n" not in text_of_error


def test_manually_moved_data_is_accepted() -> None:
    check(replace(CLUSTER, paths=Paths(data="/data")), facts(active="inactive", files={"/data": FILLED}))
    check(replace(CLUSTER, paths=Paths(wal="/wal")), facts(active="inactive", files={"/wal": FILLED}))


def test_another_ca_is_rejected() -> None:
    with pytest.raises(ConfigError, match=r"the CA in /etc/etcd/cert/ca\.pem on node1"):
        check_continuity(CLUSTER, SPECS[0], facts(), authorities={"/etc/etcd/cert/ca.pem": "bb" * 32})
    # A CA file that no running member uses may change.
    check_continuity(CLUSTER, SPECS[0], facts(), authorities={"/etc/etcd/cert/peer-ca.pem": "bb" * 32})


def test_a_unit_without_flags_is_not_checked() -> None:
    by_file = facts(command="/opt/tercet/current/bin/tercet --config-file=/etc/etcd/etcd.conf.yml")
    assert check(replace(CLUSTER, hosts=SPECS[:2]), by_file) == {}


def test_a_token_that_a_cluster_file_does_not_allow_is_kept() -> None:
    check(CLUSTER, facts(command=COMMAND.replace("token=first", "token=$first")))
    with pytest.raises(ConfigError, match=r"would not find the others: set token: other$"):
        check(CLUSTER, facts(command=COMMAND.replace("token=first", "token=other")))


def test_flags_of_a_command() -> None:
    assert flags_of("/bin/etcd --name=a -b=c=d --debug word") == {"name": "a", "b": "c=d"}
