"""Which changes of the cluster file a member that has run before can follow, and what is said of the others."""

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
        os_id="debian",
        os_version="12",
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


def test_flags_that_only_the_first_start_reads_stay_as_they_were_written() -> None:
    kept = {"initial-cluster-state": "new", "initial-cluster-token": "first"}
    assert check(replace(CLUSTER, flags={"heartbeat-interval": "200"}), facts()) == kept


def test_before_the_first_start_anything_goes() -> None:
    other = replace(CLUSTER, hosts=SPECS[:2], engine=EngineSettings(kind="etcd", source="e.tar.gz"))
    assert check(other, facts(data=EMPTY, active="failed")) == {}


def test_a_member_that_is_down_has_started_too() -> None:
    with pytest.raises(ConfigError, match="node3 left"):
        check(replace(CLUSTER, hosts=SPECS[:2]), facts(active="inactive"))


MOVED = (replace(SPECS[0], address="192.0.2.9"), *SPECS[1:])
CHANGES: list[tuple[str, Cluster, str]] = [
    ("a host more", replace(CLUSTER, hosts=(*SPECS, HostSpec(name="node4", address="192.0.2.4"))), "node4 joined"),
    ("a host fewer", replace(CLUSTER, hosts=SPECS[:2]), "node3 left"),
    ("another name", replace(CLUSTER, hosts=(*SPECS[:2], replace(SPECS[2], name="x"))), "x joined, and node3 left"),
    (
        "another address",
        replace(CLUSTER, hosts=MOVED),
        "node1 moved from https://192.0.2.1:2380 to https://192.0.2.9:2380",
    ),
    ("no TLS", replace(CLUSTER, tls=TlsSettings(enabled=False)), "from https://192.0.2.1:2380 to http://192.0.2.1:2380"),
    ("the other engine", replace(CLUSTER, engine=EngineSettings(kind="etcd", source="e")), "was written by tercet"),
    (
        "another token",
        replace(CLUSTER, token="second"),
        "token: node1 was first started with first, and the file says second. the members keep",
    ),
    (
        "another name, and the token with it",
        replace(CLUSTER, name="third", token="third"),
        "started with first, and the file, which sets none, means its name, third. the members",
    ),
    ("another place for data", replace(CLUSTER, paths=Paths(data="/data")), "what node1 has is in /var/lib/etcd, and /data"),
    ("another place for the log", replace(CLUSTER, paths=Paths(wal="/wal")), "paths.wal: what node1 has"),
]


@pytest.mark.parametrize(("cluster", "text"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES])
def test_what_would_break_a_member_is_refused(cluster: Cluster, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check(cluster, facts())
    said = str(caught.value)
    assert said.startswith("cluster.yaml:2: ")
    assert text in said
    assert "\n" not in said


def test_data_that_was_moved_by_hand_may_be_found_in_its_new_place() -> None:
    check(replace(CLUSTER, paths=Paths(data="/data")), facts(active="inactive", files={"/data": FILLED}))
    check(replace(CLUSTER, paths=Paths(wal="/wal")), facts(active="inactive", files={"/wal": FILLED}))


def test_another_authority_is_refused_and_the_same_one_is_not() -> None:
    with pytest.raises(ConfigError, match=r"the authority in /etc/etcd/cert/ca\.pem on node1"):
        check_continuity(CLUSTER, SPECS[0], facts(), authorities={"/etc/etcd/cert/ca.pem": "bb" * 32})
    # A file that no running member trusts may become anything.
    check_continuity(CLUSTER, SPECS[0], facts(), authorities={"/etc/etcd/cert/peer-ca.pem": "bb" * 32})


def test_a_unit_that_says_it_otherwise_is_not_judged() -> None:
    by_file = facts(command="/opt/tercet/current/bin/tercet --config-file=/etc/etcd/etcd.conf.yml")
    assert check(replace(CLUSTER, hosts=SPECS[:2]), by_file) == {}


def test_a_token_that_no_cluster_file_can_say_is_not_judged() -> None:
    check(CLUSTER, facts(command=COMMAND.replace("token=first", "token=$first")))
    with pytest.raises(ConfigError, match=r"would not find them: set token: other$"):
        check(CLUSTER, facts(command=COMMAND.replace("token=first", "token=other")))


def test_flags_of_a_command() -> None:
    assert flags_of("/bin/etcd --name=a -b=c=d --debug word") == {"name": "a", "b": "c=d"}
