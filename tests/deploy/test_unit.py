"""The units of a member and of backups: content, quoting, and verification by systemd."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from pathlib import Path

import pytest

from tercet.deploy.cluster.cluster import Cluster
from tercet.deploy.cluster.member_flags import certificate_files, member_flags
from tercet.deploy.draft.unit_reading import fill_in, read_unit, split_words
from tercet.deploy.plan import backup_unit
from tercet.deploy.plan.unit import keep_first_start_flags, quoted, unit_text
from tercet.errors import ConfigError
from tests.deploy.clusters import HOSTS, cluster_of
from tests.support.waiting import scaled

PROGRAM = "/opt/tercet/current/bin/tercet"


def text_of(cluster: Cluster) -> str:
    return unit_text(cluster, program=PROGRAM, flags=member_flags(cluster, cluster.hosts[0]))


def command_of(text: str, tmp_path: Path) -> list[str]:
    """The arguments of ExecStart, parsed by unit_reading."""
    path = tmp_path / "read-back.service"
    path.write_text(text)
    return fill_in(split_words(read_unit(path).last("Service", "ExecStart")), {})


def test_the_unit_of_a_manual_deployment_is_reproduced(tmp_path: Path) -> None:
    settings = """\
engine: {kind: etcd, source: etcd.tar.gz}
tls: {shared: true}
paths: {ca: /etc/kubernetes/cert/ca.pem}
service: {user: k8s}
listen: {plain_loopback: true}"""
    cluster = cluster_of(tmp_path, settings)
    flags = member_flags(cluster, cluster.hosts[0])
    assert flags == {
        "name": "node1",
        "data-dir": "/var/lib/etcd",
        "cert-file": "/etc/etcd/cert/etcd.pem",
        "key-file": "/etc/etcd/cert/etcd-key.pem",
        "client-cert-auth": "true",
        "trusted-ca-file": "/etc/kubernetes/cert/ca.pem",
        "peer-cert-file": "/etc/etcd/cert/etcd.pem",
        "peer-key-file": "/etc/etcd/cert/etcd-key.pem",
        "peer-client-cert-auth": "true",
        "peer-trusted-ca-file": "/etc/kubernetes/cert/ca.pem",
        "listen-peer-urls": "https://10.0.0.1:2380",
        "initial-advertise-peer-urls": "https://10.0.0.1:2380",
        "listen-client-urls": "https://10.0.0.1:2379,http://127.0.0.1:2379",
        "advertise-client-urls": "https://10.0.0.1:2379",
        "initial-cluster": "node1=https://10.0.0.1:2380,node2=https://10.0.0.2:2380,node3=https://10.0.0.3:2380",
        "initial-cluster-token": "demo",
        "initial-cluster-state": "new",
        "quota-backend-bytes": str(8 << 30),
        "auto-compaction-mode": "periodic",
        "auto-compaction-retention": "1h",
    }
    text = text_of(cluster)
    for line in (
        "User=k8s",
        "Group=k8s",
        "Type=notify",
        "WorkingDirectory=/var/lib/etcd",
        "Restart=on-failure",
        "RestartSec=5",
    ):
        assert f"\n{line}\n" in text
    for line in ("LimitNOFILE=65536", "TimeoutStartSec=60", "After=network-online.target", "WantedBy=multi-user.target"):
        assert f"\n{line}\n" in text
    assert command_of(text, tmp_path) == [PROGRAM, *(f"--{name}={value}" for name, value in flags.items())]


def test_every_listener_uses_tls_by_default(tmp_path: Path) -> None:
    cluster = cluster_of(tmp_path)
    flags = member_flags(cluster, cluster.hosts[0])
    assert flags["listen-client-urls"] == "https://10.0.0.1:2379,https://127.0.0.1:2379"
    assert "http:" not in text_of(cluster).replace("https:", "").replace("[Unit]", "")
    files = certificate_files(cluster)
    assert len(set(files.values())) == 6
    assert flags["peer-trusted-ca-file"] == files["peer-ca"] != files["ca"] == flags["trusted-ca-file"]


def test_without_tls_there_are_no_tls_flags(tmp_path: Path) -> None:
    cluster = cluster_of(tmp_path, "tls: {enabled: false}")
    flags = member_flags(cluster, cluster.hosts[0])
    assert not [name for name in flags if "cert" in name or "-ca-" in name]
    assert flags["listen-client-urls"] == "http://10.0.0.1:2379,http://127.0.0.1:2379"


def test_wal_directory_and_metrics_listener(tmp_path: Path) -> None:
    cluster = cluster_of(tmp_path, "paths: {wal: /fast/wal}\nlisten: {loopback: false, metrics_url: 'http://0.0.0.0:2381'}")
    flags = member_flags(cluster, cluster.hosts[0])
    assert (flags["wal-dir"], flags["listen-metrics-urls"]) == ("/fast/wal", "http://0.0.0.0:2381")
    assert flags["listen-client-urls"] == "https://10.0.0.1:2379"
    assert "ReadWritePaths=/var/lib/etcd /fast\n" in text_of(cluster)


def test_a_dns_name_is_advertised_and_the_member_listens_on_all_addresses(tmp_path: Path) -> None:
    hosts = "hosts:\n- {name: a, address: a.example}\n- {name: b, address: 'fd00::1'}"
    cluster = cluster_of(tmp_path, hosts=hosts)
    named, numbered = (member_flags(cluster, spec) for spec in cluster.hosts)
    assert named["listen-client-urls"] == "https://0.0.0.0:2379"
    assert named["listen-peer-urls"] == "https://0.0.0.0:2380"
    assert named["advertise-client-urls"] == "https://a.example:2379"
    assert numbered["listen-client-urls"] == "https://[fd00::1]:2379,https://127.0.0.1:2379"
    plain = cluster_of(tmp_path, "listen: {plain_loopback: true}", hosts=hosts)
    with pytest.raises(ConfigError, match=r"cluster\.yaml:\d+: a\.example is a DNS name.*plain_loopback"):
        member_flags(plain, plain.hosts[0])


def test_an_additional_flag_is_one_additional_line(tmp_path: Path) -> None:
    before = text_of(cluster_of(tmp_path)).splitlines()
    hosts = "hosts:\n- {name: node1, address: 10.0.0.1, flags: {heartbeat-interval: '150'}}\n" + "".join(
        f"- {{name: node{n}, address: 10.0.0.{n}}}\n" for n in (2, 3)
    )
    cluster = cluster_of(tmp_path, "flags: {heartbeat-interval: '120'}", hosts=hosts)
    after = text_of(cluster).splitlines()
    assert [line.strip() for line in after if line not in before] == ["--heartbeat-interval=150 \\"]
    assert [line for line in before if line not in after] == []
    assert member_flags(cluster, cluster.hosts[1])["heartbeat-interval"] == "120"


ODD = [
    "plain",
    "100%",
    "%n %i",
    "$HOME ${HOME}",
    'say "no"',
    "it's",
    "back\\slash",
    "a;b",
    "two words",
    "tab\there",
    "",
    "é",
    "#no",
]


@pytest.mark.parametrize("value", ODD)
def test_quoted_values_are_parsed_back_unchanged(tmp_path: Path, value: str) -> None:
    word = f"--x={value}"
    assert fill_in(split_words(quoted(word)), {}) == [word]


def test_first_start_flags_of_the_existing_unit_are_kept() -> None:
    ours = "  --a=1 \\\n  --initial-cluster-token=new-token \\\n  --initial-cluster-state=new \\\n  --b=2\n"
    theirs = "  --initial-cluster-token=old \\\n  --initial-cluster-state=existing\n"
    both = ours.replace("new-token", "old").replace("state=new", "state=existing")
    assert keep_first_start_flags(ours, theirs, has_data=True) == both
    assert keep_first_start_flags(ours, theirs, has_data=False) == ours.replace("state=new", "state=existing")
    assert keep_first_start_flags(ours, None, has_data=True) == ours
    assert keep_first_start_flags(ours, "garbage", has_data=True) == ours
    assert keep_first_start_flags(ours, ours, has_data=True) == ours


def test_the_token_of_a_started_member_is_kept(tmp_path: Path) -> None:
    before = text_of(cluster_of(tmp_path, "token: first"))
    after = text_of(cluster_of(tmp_path, "token: other"))
    assert before != after
    assert keep_first_start_flags(after, before, has_data=True) == before


def backup_units(cluster: Cluster) -> dict[str, str]:
    return backup_unit.units(cluster, cluster.hosts[0], tool="/bin/true", offline_tool="/nowhere/etcdutl", member="/bin/true")


def test_systemd_analyze_accepts_the_units(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("needs systemd-analyze")
    cluster = cluster_of(tmp_path, "flags: {host-whitelist: '5%,$HOME \"b\"'}")
    units = {"etcd.service": unit_text(cluster, program="/bin/true", flags=member_flags(cluster, cluster.hosts[0]))}
    for path, text in backup_units(cluster).items():
        units[Path(path).name] = text
    for name, text in units.items():
        (tmp_path / name).write_text(text)
    said = subprocess.run(
        ["systemd-analyze", "verify", *(str(tmp_path / name) for name in units)],
        capture_output=True,
        text=True,
        timeout=scaled(30),
    )
    assert [line for line in said.stderr.splitlines() if str(tmp_path) in line or "etcd" in line] == []


def test_the_hosts_take_turns_that_others_do_not_change(tmp_path: Path) -> None:
    def waits(hosts: str) -> list[int]:
        cluster = cluster_of(tmp_path, hosts=hosts)
        units = [backup_unit.units(cluster, spec, tool="t", offline_tool="o", member="m") for spec in cluster.hosts]
        return [int(text.partition("--turn=")[2].split()[0]) for text in (next(iter(unit.values())) for unit in units)]

    three = waits(HOSTS)
    assert waits(HOSTS + "- {name: node4, address: 10.0.0.4}\n")[:3] == three
    assert min(abs(one - other) for one, other in itertools.combinations(three, 2)) > 100


def test_disabled_backups_have_no_units(tmp_path: Path) -> None:
    cluster = cluster_of(tmp_path, "backups: {enabled: false}")
    assert backup_units(cluster) == {}
