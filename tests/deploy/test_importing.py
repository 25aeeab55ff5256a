"""Import of manual deployments: environment.sh and units of etcd are parsed, never executed."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.deploy.cluster.cluster_file import Cluster, parse
from tercet.deploy.draft.draft import Imported
from tercet.deploy.draft.importing import from_environment_sh, from_files, from_unit
from tercet.deploy.draft.shell_assignments import read_script
from tercet.deploy.draft.unit_reading import read_unit, split_words
from tercet.deploy.plan.unit import unit_text
from tercet.errors import ConfigError
from tests.support.properties import examples
from tests.support.waiting import scaled

ENVIRONMENT = r"""#!/usr/bin/bash

# the key that encrypts secrets
ENCRYPTION_KEY=$(head -c 32 /dev/urandom | base64)
SERVICE_CIDR="10.254.0.0/16"  # a network that is not in use
export NODE_PORT_RANGE="8400-9000"

export NODE_IPS=(172.27.129.105 172.27.129.111 172.27.129.112)
export NODE_NAMES=(kube-node1 "kube-node2"
    'kube-node3')   # in the same order

export MASTER_VIP=172.27.129.253
export KUBE_APISERVER="https://${MASTER_VIP}:8443"
export ETCD_ENDPOINTS="https://172.27.129.105:2379,https://172.27.129.111:2379,https://172.27.129.112:2379"
export ETCD_NODES="kube-node1=https://172.27.129.105:2380,\
kube-node2=https://172.27.129.111:2380,kube-node3=https://172.27.129.112:2380"
export PATH=/opt/k8s/bin:$PATH
"""

UNIT = r"""[Unit]
Description=Etcd Server
After=network-online.target
Wants=network-online.target

[Service]
User=k8s
Type=notify
WorkingDirectory=/var/lib/etcd/
ExecStart=/opt/k8s/bin/etcd \
  --data-dir=/var/lib/etcd \
  --name=##NODE_NAME## \
  --cert-file=/etc/etcd/cert/etcd.pem \
  --key-file=/etc/etcd/cert/etcd-key.pem \
  --trusted-ca-file=/etc/kubernetes/cert/ca.pem \
  --peer-cert-file=/etc/etcd/cert/etcd.pem \
  --peer-key-file=/etc/etcd/cert/etcd-key.pem \
  --peer-trusted-ca-file=/etc/kubernetes/cert/ca.pem \
  --peer-client-cert-auth \
  --client-cert-auth \
  --listen-peer-urls=https://##NODE_IP##:2380 \
  --initial-advertise-peer-urls=https://##NODE_IP##:2380 \
  --listen-client-urls=https://##NODE_IP##:2379,http://127.0.0.1:2379 \
  --advertise-client-urls=https://##NODE_IP##:2379 \
  --initial-cluster-token=etcd-cluster-0 \
  --initial-cluster=${ETCD_NODES} \
  --initial-cluster-state=new
Restart=on-failure
RestartSec=5
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
"""
MEMBERS = "kube-node1=https://172.27.129.105:2380,kube-node2=https://172.27.129.111:2380,kube-node3=https://172.27.129.112:2380"


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def environment(directory: Path, text: str = ENVIRONMENT) -> Imported:
    return from_environment_sh(written(directory / "environment.sh", text))


def unit(directory: Path, text: str, name: str = "etcd.service") -> Imported:
    return from_unit(written(directory / name, text))


def unit_with(flags: str, service: str = "") -> str:
    return f"[Service]\nUser=etcd\n{service}\nExecStart=/usr/local/bin/etcd --initial-cluster={MEMBERS} {flags}\n"


def loaded(imported: Imported) -> Cluster:
    """Also asserts that every note is in the text."""
    flat = " ".join(imported.text.replace("\n#   ", " ").split())
    for note in imported.notes:
        assert " ".join(note.split()) in flat
    return parse(imported.text, Path("/srv/cluster.yaml"))


def test_an_environment_sh(tmp_path: Path) -> None:
    imported = environment(tmp_path)
    made = loaded(imported)
    assert [(host.name, host.address) for host in made.hosts] == [
        ("kube-node1", "172.27.129.105"),
        ("kube-node2", "172.27.129.111"),
        ("kube-node3", "172.27.129.112"),
    ]
    assert made.initial_cluster() == MEMBERS
    assert (made.paths.bin, made.engine.kind, made.tls.enabled, made.warnings) == ("/opt/k8s/bin", "tercet", True, ())
    assert imported.notes == (
        "Not imported from environment.sh: ENCRYPTION_KEY, SERVICE_CIDR, NODE_PORT_RANGE, MASTER_VIP, KUBE_APISERVER.",
    )


def test_nothing_is_executed(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    text = f'X=$(touch {marker})\nY=`touch {marker}`\ntouch {marker}\n: > {marker}\nZ="$(touch {marker})"\n' + ENVIRONMENT
    loaded(environment(tmp_path, text))
    assert not marker.exists()


def test_values_of_unrelated_variables_do_not_reach_the_file(tmp_path: Path) -> None:
    imported = environment(
        tmp_path, "ENCRYPTION_KEY=hunter2\nTOKEN='hunter2'\n" + ENVIRONMENT.replace("ENCRYPTION_KEY=$", "K=$")
    )
    assert "hunter2" not in imported.text
    assert "TOKEN" in imported.text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            " 172.27.129.112)",
            ")",
            "9: NODE_NAMES: has 3 entries, but NODE_IPS (line 8) has 2; they are paired by position",
        ),
        ("NODE_NAMES=", "OTHER=", "8: NODE_IPS: has 3 entries, but NODE_NAMES has none"),
        ("172.27.129.111 ", "172.27.129.105 ", "8: NODE_IPS: 172.27.129.105 is the address of two members"),
        ('"kube-node2"', "kube-node1", "9: NODE_NAMES: kube-node1 is the name of two members"),
        ("172.27.129.111 ", "172.27.129.333 ", "8: NODE_IPS: '172.27.129.333' is not an IP address"),
        ('"kube-node2"', '"kube node2"', "9: NODE_NAMES: 'kube node2' is not a valid name"),
        ("kube-node2=https", "kube-node9=https", "15: ETCD_NODES: kube-node9 is not in NODE_NAMES; correct one of them"),
        (
            "=https://172.27.129.111",
            "=https://172.27.129.9",
            "15: ETCD_NODES: kube-node2 has address 172.27.129.9, but 172.27.129.111",
        ),
        (
            "172.27.129.111:2380",
            "172.27.129.111:2390",
            "15: ETCD_NODES: the URLs of kube-node1 and kube-node2 differ in scheme or port",
        ),
        ("kube-node2=https", "kube-node2=http", "15: ETCD_NODES: the URLs of kube-node1 and kube-node2 differ"),
        ("kube-node2=https://172.27.129.111:2380", "kube-node2", "15: ETCD_NODES: 'kube-node2' is not NAME=URL"),
        (
            "172.27.129.111:2379",
            "172.27.129.111:4001",
            "14: ETCD_ENDPOINTS: has the ports 2379, 4001; all members must use the same port",
        ),
        (
            "NODE_IPS=(172.27.129.105",
            "NODE_IPS=($(hostname -I)",
            "8: NODE_IPS: the value depends on executing the script",
        ),
        (
            "172.27.129.105 1",
            "$FIRST 1",
            "8: NODE_IPS: the value depends on executing the script, which is not done: it uses $FIRST",
        ),
        ("export NODE_IPS", "if true; then\nexport NODE_IPS", "9: NODE_IPS: the value depends on executing the script"),
        ("export NODE_IPS", "true && NODE_IPS", "8: NODE_IPS: the value depends on executing the script"),
        ("export NODE_IPS=(", "declare -A NODE_IPS=(", "8: NODE_IPS: the value depends on executing the script"),
        ("'kube-node3')", "'kube-node3'", "9: NODE_NAMES: "),
        ("base64)\n", 'base64)\nX="\n', ': unterminated "'),
    ],
)
def test_errors_in_an_environment_name_line_and_variable(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in ENVIRONMENT
    with pytest.raises(ConfigError) as caught:
        environment(tmp_path, ENVIRONMENT.replace(old, new, 1))
    error = str(caught.value)
    assert error.startswith(f"{tmp_path}/environment.sh:")
    assert message in error
    assert "\n" not in error


def test_unequal_arrays_name_both_lines(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        environment(tmp_path, "NODE_IPS=(10.0.0.1 10.0.0.2)\nNODE_NAMES=(n1 n2 n3)\n")
    assert str(caught.value) == (
        f"{tmp_path}/environment.sh:2: NODE_NAMES: has 3 entries, but NODE_IPS (line 1) has 2; "
        "they are paired by position and must have the same length"
    )


def test_only_those_in_etcd_nodes_are_members(tmp_path: Path) -> None:
    text = ENVIRONMENT.replace(".112)", ".112 172.27.129.200)").replace("'kube-node3')", "'kube-node3' worker)")
    imported = environment(tmp_path, text)
    assert len(loaded(imported).hosts) == 3
    assert "Not members: worker (in NODE_NAMES, but not in ETCD_NODES)." in imported.notes


def test_ports_paths_and_plain_http(tmp_path: Path) -> None:
    imported = environment(
        tmp_path,
        """
        ETCD_NODES=n1=http://10.0.0.1:7001,n2=http://10.0.0.2:7001,n3=http://10.0.0.3:7001
        readonly ETCD_ENDPOINTS=http://10.0.0.1:4001,http://10.0.0.2:4001,http://10.0.0.9:4001
        ETCD_DATA_DIR="/data/k8s/etcd/data"
        ETCD_WAL_DIR="/data/k8s/etcd/wal"
        """,
    )
    made = loaded(imported)
    assert (made.listen.peer_port, made.listen.client_port, made.tls.enabled) == (7001, 4001, False)
    assert (made.paths.data, made.paths.wal) == ("/data/k8s/etcd/data", "/data/k8s/etcd/wal")
    assert "ETCD_ENDPOINTS has addresses of no member: http://10.0.0.9:4001." in imported.notes
    assert any(note.startswith("TLS is disabled") for note in imported.notes)


def test_an_even_number_of_members_is_a_warning(tmp_path: Path) -> None:
    made = loaded(environment(tmp_path, "NODE_IPS=(10.0.0.1 10.0.0.2)\nNODE_NAMES=(n1 n2)\n"))
    assert [warning.split(": ")[1:3] for warning in made.warnings] == [
        ["hosts", "2 members tolerate no more failures than 1; use an odd number"]
    ]


@pytest.mark.parametrize("text", ["", "echo hello\n", "NODE_IPS=()\nNODE_NAMES=()\n", "ETCD_NODES=\n"])
def test_an_environment_without_hosts(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="no hosts: neither NODE_IPS and NODE_NAMES nor ETCD_NODES is assigned"):
        environment(tmp_path, text)


SCRIPTS = [
    "A=plain\nB='single $A'\nC=\"double $A ${A}x\"\n",
    "export A=1 B=2; C=3 # D=4\n",
    'A=a\\ b\nB="x\\"y\\$z\\n"\nC=a\\\nb\n',
    "A=(1 2 '3 4' \"5\")\nB=(\n  x # one\n  y\n)\n",
    "A=(1)\nA+=(2 3)\nB=x\nB+=y\nA[1]=two\n",
    "A=1\nunset A\nB=2\n",
    "A=x#y\nB=#\nC= # D=1\nD=''\n",
    "cat > /dev/null <<EOF\nA=1\nEOF\nB=2\n",
    "cat > /dev/null <<-'END'\n\tA=1\n\tEND\nB=2\n",
    "declare -r A=1\nreadonly B=2\ntypeset C=3\n",
    "A=1 true\nB=2\n",
    "A=1;B=2;;".rstrip(";") + "\n",
    "A=one\nB=$A-two\nC=\"$B\"'$A'\n",
    "A=$'plain'\nB=$\nC=\"$ x\"\n",
    "A=\r\n".replace("\r", ""),
    "A=1 2>/dev/null\nB=3 >/dev/null\n",
    "if false; then A=1; fi\nB=2\n",
    'A="two\nlines"\nB=3\n',
]


@pytest.mark.parametrize("script", SCRIPTS)
def test_bash_reads_the_same(tmp_path: Path, script: str) -> None:
    """Compared with bash, for harmless scripts. A value that is unknown here may be anything there."""
    path = written(tmp_path / "script.sh", script)
    ours = read_script(path)
    dump = 'for n in A B C D; do declare -n v=$n; for x in "${v[@]}"; do printf "%s\\0%s\\0" "$n" "$x"; done; done'
    command = ["bash", "--norc", "--noprofile", "-c", f'source "$0"; {dump}', str(path)]
    output = subprocess.run(command, capture_output=True, check=True, timeout=scaled(20), env={"PATH": "/usr/bin:/bin"}).stdout
    fields = output.decode().split("\0")[:-1]
    theirs: dict[str, list[str]] = {}
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        theirs.setdefault(name, []).append(value)
    known = {
        name: [text.known for text in variable.values]
        for name, variable in ours.variables.items()
        if not any(text.unknown for text in variable.values)
    }
    unknown = ours.variables.keys() - known.keys()
    assert known == {name: values for name, values in theirs.items() if name not in unknown}
    assert len(unknown) <= 1


def test_a_unit_template_with_its_environment(tmp_path: Path) -> None:
    paths = [written(tmp_path / "environment.sh", ENVIRONMENT), written(tmp_path / "etcd.service.template", UNIT)]
    imported = from_files(paths)
    made = loaded(imported)
    assert made.initial_cluster() == MEMBERS
    assert (made.token, made.engine.kind, made.engine.source) == ("etcd-cluster-0", "etcd", "/srv/etcd-linux-amd64.tar.gz")
    assert (made.paths.bin, made.paths.data, made.paths.work) == ("/opt/k8s/bin", "/var/lib/etcd", "/var/lib/etcd")
    assert (made.paths.certificates, made.paths.ca_file) == ("/etc/etcd/cert", "/etc/kubernetes/cert/ca.pem")
    assert (made.service.unit, made.service.user, made.service.group) == ("etcd", "k8s", "k8s")
    assert (made.service.restart_seconds, made.service.open_files) == (5, 65536)
    assert (made.listen.plain_loopback, made.listen.client_port, made.listen.peer_port) == (True, 2379, 2380)
    assert (made.tls.shared, made.flags) == (True, {})
    assert [warning.split(": ")[1] for warning in made.warnings] == ["listen.plain_loopback"]
    assert from_files(paths[::-1]).text == imported.text
    tercet = parse(from_files(paths, engine="tercet").text, Path("/srv/cluster.yaml"))
    assert (tercet.engine.kind, tercet.paths.install) == ("tercet", "/opt/tercet")
    assert "tercet cannot read its data directory" in from_files(paths, engine="tercet").text


def test_a_template_without_environment_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        unit(tmp_path, UNIT)
    assert str(caught.value) == (
        f"{tmp_path}/etcd.service:10: ExecStart: --initial-cluster=${{ETCD_NODES}}: ${{ETCD_NODES}} is not set in the unit; "
        "write the value, or import the environment.sh that sets it together with the unit"
    )
    with pytest.raises(ConfigError, match=r"no members: .* together with the environment.sh"):
        unit(tmp_path, UNIT.replace("  --initial-cluster=${ETCD_NODES} \\\n", ""))


def test_a_template_filled_in(tmp_path: Path) -> None:
    text = UNIT.replace("${ETCD_NODES}", MEMBERS)
    for name in ("etcd.service", "etcd-172.27.129.105.service"):
        filled = text.replace("##NODE_NAME##", "kube-node1").replace("##NODE_IP##", "172.27.129.105")
        made = loaded(unit(tmp_path, filled, name))
        assert (made.service.unit, made.initial_cluster()) == ("etcd", MEMBERS)
    assert loaded(unit(tmp_path, text)).initial_cluster() == MEMBERS


def test_a_unit_of_another_shape(tmp_path: Path) -> None:
    imported = unit(
        tmp_path,
        f"""
# written by hand
[Service]
Environment="ETCD_NAME=kube-node1" GOMAXPROCS=2
Environment=MEMBERS={MEMBERS}
EnvironmentFile=-/etc/default/etcd
Type=simple
ExecStart=
ExecStart=-/usr/bin/etcd -data-dir /data/etcd/ \\
# a comment between
; and another
  --listen-client-urls "https://0.0.0.0:3379" --advertise-client-urls=https://172.27.129.105:3379 \\
  --initial-cluster=$MEMBERS --snapshot-count=5000 --pre-vote=false --strict-reconfig-check \\
  --auto-compaction-mode=revision --auto-compaction-retention=1000 --quota-backend-bytes=4294967296 \\
  --discovery-password=hunter2 --foo-secret=hunter2 --listen-metrics-urls=http://0.0.0.0:2381 --cors='a,b' --wal-dir=wal
Restart=always
RestartSec=2min
LimitNOFILE=infinity
Nice=-5
""",
        "my-etcd.service",
    )
    made = loaded(imported)
    assert made.flags == {"snapshot-count": "5000", "pre-vote": "false", "strict-reconfig-check": "true"}
    assert (made.listen.client_port, made.listen.metrics_url) == (3379, "http://0.0.0.0:2381")
    assert (made.auto_compaction_mode, made.auto_compaction_retention, made.quota_backend_bytes) == (
        "revision",
        "1000",
        4 << 30,
    )
    assert (made.paths.data, made.paths.bin, made.service.unit) == ("/data/etcd", None, "my-etcd")
    assert (made.service.restart_seconds, made.service.open_files, made.service.user) == (120, 65536, "root")
    assert (made.service.options["Nice"], made.service.hardening, made.backups.enabled) == ("-5", False, False)
    assert "hunter2" not in imported.text
    for begin in (
        "The unit listens on all addresses (https://0.0.0.0:3379)",
        "The unit runs as root",
        "The unit has Type=simple; the deployed unit has Type=notify.",
        "The unit has LimitNOFILE=infinity; the deployed unit has 65536",
        "The unit has no sandboxing, so it stays without",
        "No snapshots are taken on the hosts",
        "Not imported: --discovery-password=... (conflicts with hosts",
        "Not imported: --foo-secret=... (not a flag of etcd).",
        "Not imported: --cors=a,b ('a,b' is not a list of origins",
        "/etc/default/etcd is on the hosts and was not read",
        "Not imported from Environment=: GOMAXPROCS, MEMBERS",
    ):
        assert any(note.startswith(begin) for note in imported.notes), begin


def test_the_unit_of_a_member_keeps_its_settings(tmp_path: Path) -> None:
    """The deployed unit differs in its form, and in nothing that systemd does."""
    settings = (
        "Restart=always\nOOMScoreAdjust=-900\nLimitCORE=infinity\nPrivateTmp=yes\nExecStartPre=/bin/a\nExecStartPre=/bin/b"
    )
    imported = from_unit(written(tmp_path / "etcd.service", unit_with("", settings)))
    made = parse(imported.text, tmp_path / "cluster.yaml")
    assert made.service.options == {
        "Restart": "always",
        "OOMScoreAdjust": "-900",
        "LimitCORE": "infinity",
        "PrivateTmp": "yes",
    }
    assert any(note.startswith("Not imported from [Service]: ExecStartPre;") for note in imported.notes)
    text = unit_text(made, program="/opt/etcd/current/bin/etcd", flags={})
    assert text.index("\nRestart=on-failure\n") < text.index("\nRestart=always\n"), "the last one counts"
    assert "NoNewPrivileges" not in text
    assert made.tls.key_type is None, "new keys are of the CA's type"
    hard = unit_with("", "ProtectSystem=full")
    hardened = parse(from_unit(written(tmp_path / "etcd.service", hard)).text, tmp_path / "cluster.yaml")
    assert hardened.service.hardening


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hello\n", ":1: 'hello' is neither KEY=VALUE nor a [Section]"),
        ("A=1\n", ":1: 'A=1' is before the first [Section]"),
        ("[Service]\nUser=a\n", ": no ExecStart= in [Service]"),
        ("[Service]\nExecStart=\n", ": no ExecStart= in [Service]"),
        ("[Service]\nExecStart=/bin/a\nExecStart=/bin/b\n", ":3: second ExecStart="),
        ("[Service]\nExecStart=/bin/sh -c 'etcd'\n", ":2: ExecStart: runs the shell /bin/sh, whose script is not parsed"),
        ("[Service]\nExecStart=/usr/bin/env etcd\n", ":2: ExecStart: runs /usr/bin/env"),
        ("[Service]\nExecStart=/bin/etcd 'a\n", ":2: ExecStart: unterminated '"),
        ("[Service]\nExecStart=@\n", ":2: ExecStart: no program"),
        ("[Service]\nExecStart=/bin/etcd\n", ": no members: --initial-cluster with names and addresses"),
        (
            unit_with("--name=other"),
            ":4: ExecStart: --name=other is not in --initial-cluster (kube-node1, kube-node2, kube-node3)",
        ),
        (unit_with("--initial-cluster=a"), ":4: ExecStart: --initial-cluster: 'a' is not NAME=URL"),
        (unit_with("--initial-cluster=a=unix:/s"), ":4: ExecStart: --initial-cluster: 'unix:/s' is a Unix socket"),
        (unit_with("--listen-client-urls=x"), ":4: ExecStart: --listen-client-urls: "),
        (
            unit_with("--listen-client-urls=https://10.0.0.1:1,https://10.0.0.2:2"),
            ":4: ExecStart: the URLs for clients have the ports 1 and 2",
        ),
        (unit_with("--data-dir=/var/lib"), ":4: ExecStart: --data-dir: /var/lib is a system directory"),
        (unit_with("--data-dir=/var/lib/$X"), ":4: ExecStart: --data-dir=/var/lib/$X: $X is not set in the unit"),
        (unit_with("", "User=a b"), ":3: User: 'a b' is not a user name"),
        (unit_with("", "WorkingDirectory=/"), ":3: WorkingDirectory: is the root directory"),
        (unit_with("", "Environment='a"), ":3: Environment: unterminated '"),
        (unit_with("--election-timeout=100"), ": not a valid cluster file after import: flags.election-timeout: "),
    ],
)
def test_errors_in_a_unit_name_line_and_setting(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        unit(tmp_path, text)
    error = str(caught.value).removeprefix(f"{tmp_path}/etcd.service")
    assert error[: len(message)] == message
    assert "\n" not in error


def test_service_settings_are_imported(tmp_path: Path) -> None:
    made = loaded(unit(tmp_path, unit_with("", "Group=data\nRestartSec=1s\nTimeoutStartSec=300\nLimitNOFILE=1048576")))
    assert (made.service.group, made.service.restart_seconds, made.service.start_timeout_seconds) == ("data", 1, 300)
    assert made.service.open_files == 1 << 20


def test_certificates_in_other_directories_are_noted(tmp_path: Path) -> None:
    imported = unit(
        tmp_path,
        unit_with("--cert-file=/etc/etcd/pki/s.pem --key-file=/etc/etcd/keys/s.key --peer-cert-file=/etc/etcd/pki/p.pem"),
    )
    made = loaded(imported)
    assert (made.paths.certificates, made.tls.shared) == ("/etc/etcd/pki", False)
    notes = " ".join(imported.notes)
    assert "are stored in /etc/etcd/pki; the unit has some elsewhere (/etc/etcd/keys/s.key)" in notes
    assert "The unit requires no certificate from clients and peers" in notes


def test_contradicting_files_are_an_error(tmp_path: Path) -> None:
    script = written(tmp_path / "environment.sh", "NODE_IPS=(10.0.0.1)\nNODE_NAMES=(n1)\n")
    with pytest.raises(
        ConfigError, match=r"etcd.service has the members kube-node1 .*, but .*environment.sh has n1 \(10.0.0.1\)"
    ):
        from_files([script, written(tmp_path / "etcd.service", unit_with(""))])
    with pytest.raises(ConfigError, match=r"expected an environment\.sh, a unit file, or one of each"):
        from_files([script, script])
    with pytest.raises(ConfigError, match="cannot be read: No such file or directory"):
        from_files([tmp_path / "nothing"])


def test_a_hostile_file_cannot_write_settings(tmp_path: Path) -> None:
    """Input reaches only comments and quoted values of the cluster file."""
    environment_text = "NODE_IPS=(10.0.0.1)\nNODE_NAMES=(n1)\nETCD_ENDPOINTS='https://a:2379,https://x:2379'\n"
    imported = environment(tmp_path, environment_text)
    assert loaded(imported).engine.kind == "tercet"
    text = unit_with('--log-outputs="x: [y] # z" --foo="a\\nengine: {kind: etcd}" --metrics=basic\\nflags:')
    imported = unit(tmp_path, text)
    made = loaded(imported)
    assert made.flags == {"log-outputs": "x: [y] # z"}
    assert "\nengine: {kind" not in imported.text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a  b\tc", ["a", "b", "c"]),
        ("'a b' \"c d\"e ''", ["a b", "c de", ""]),
        (r"a\x41\x20b \s \101 \\ \"", ["aA b", " ", "A", "\\", '"']),
        ("", []),
    ],
)
def test_words_of_a_unit(text: str, words: list[str]) -> None:
    assert split_words(text) == words


@examples(200)
@given(st.text(alphabet="AB=()'\"$`{}\\ \n#;&|<>[x]1+", max_size=60) | st.text(max_size=40))
def test_any_text_is_imported_or_an_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    directory = tmp_path_factory.getbasetemp()
    path = directory / "odd"
    path.write_bytes(text.encode("utf-8", "replace"))
    for read in (read_script, read_unit, from_environment_sh, from_unit):
        error = ""
        try:
            read(path)
        except ConfigError as raised:
            error = str(raised)
        assert not error or error.startswith(f"{path}:")


def test_sourced_files_are_noted(tmp_path: Path) -> None:
    imported = environment(tmp_path, ENVIRONMENT + "source /etc/profile\n. ./more.sh\n")
    assert "environment.sh sources other files (line 18, 19), which were not read." in imported.notes


def test_a_large_file_is_reported_as_too_large(tmp_path: Path) -> None:
    """Also if the size limit falls inside a multi-byte character."""
    path = tmp_path / "environment.sh"
    path.write_text("##" + "é" * (1 << 17))
    with pytest.raises(ConfigError, match=": larger than"):
        from_files([path])


KUBESPRAY = """# Environment file for etcd 3.5.16
ETCD_DATA_DIR=/var/lib/etcd
ETCD_ADVERTISE_CLIENT_URLS=https://10.0.0.1:2379
ETCD_INITIAL_ADVERTISE_PEER_URLS=https://10.0.0.1:2380
ETCD_INITIAL_CLUSTER_STATE=existing
ETCD_METRICS=basic
ETCD_LISTEN_CLIENT_URLS=https://10.0.0.1:2379,https://127.0.0.1:2379
ETCD_ELECTION_TIMEOUT=5000
ETCD_HEARTBEAT_INTERVAL=250
ETCD_INITIAL_CLUSTER_TOKEN=k8s_etcd
ETCD_LISTEN_PEER_URLS=https://10.0.0.1:2380
ETCD_NAME=etcd1
ETCD_PROXY=off
ETCD_INITIAL_CLUSTER=etcd1=https://10.0.0.1:2380,etcd2=https://10.0.0.2:2380,etcd3=https://10.0.0.3:2380
ETCD_AUTO_COMPACTION_RETENTION="8"
# TLS settings
ETCD_TRUSTED_CA_FILE=/etc/ssl/etcd/ssl/ca.pem
ETCD_CERT_FILE=/etc/ssl/etcd/ssl/member-node1.pem
ETCD_KEY_FILE=/etc/ssl/etcd/ssl/member-node1-key.pem
ETCD_CLIENT_CERT_AUTH=true
ETCD_PEER_TRUSTED_CA_FILE=/etc/ssl/etcd/ssl/ca.pem
ETCD_PEER_CERT_FILE=/etc/ssl/etcd/ssl/member-node1.pem
ETCD_PEER_KEY_FILE=/etc/ssl/etcd/ssl/member-node1-key.pem
ETCD_PEER_CLIENT_CERT_AUTH=True
ETCDCTL_ENDPOINTS=https://127.0.0.1:2379
"""
KUBESPRAY_UNIT = """[Unit]
Description=etcd
[Service]
Type=notify
User=root
EnvironmentFile=/etc/etcd.env
ExecStart=/usr/local/bin/etcd
Restart=always
RestartSec=10s
LimitNOFILE=40000
"""
KUBEADM = """apiVersion: v1
kind: Pod
metadata:
  name: etcd
spec:
  containers:
  - command:
    - etcd
    - --advertise-client-urls=https://10.0.0.2:2379
    - --cert-file=/etc/kubernetes/pki/etcd/server.crt
    - --client-cert-auth=true
    - --data-dir=/var/lib/etcd
    - --initial-advertise-peer-urls=https://10.0.0.2:2380
    - --initial-cluster=node1=https://10.0.0.1:2380,node2=https://10.0.0.2:2380
    - --initial-cluster-state=existing
    - --key-file=/etc/kubernetes/pki/etcd/server.key
    - --listen-client-urls=https://127.0.0.1:2379,https://10.0.0.2:2379
    - --listen-metrics-urls=http://127.0.0.1:2381
    - --listen-peer-urls=https://10.0.0.2:2380
    - --name=node2
    - --peer-cert-file=/etc/kubernetes/pki/etcd/peer.crt
    - --peer-client-cert-auth=true
    - --peer-key-file=/etc/kubernetes/pki/etcd/peer.key
    - --peer-trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt
    - --snapshot-count=10000
    - --trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt
    image: registry.k8s.io/etcd:3.5.15-0
"""


@pytest.mark.parametrize("has_unit", [True, False])
def test_kubespray_keeps_what_its_members_have(tmp_path: Path, has_unit: bool) -> None:
    files = [written(tmp_path / "etcd.env", KUBESPRAY)]
    if has_unit:
        files.append(written(tmp_path / "etcd.service", KUBESPRAY_UNIT))
    imported = from_files(files)
    made = parse(imported.text, tmp_path / "cluster.yaml")
    assert [(host.name, host.address) for host in made.hosts] == [(f"etcd{n}", f"10.0.0.{n}") for n in (1, 2, 3)]
    assert (made.engine.kind, made.token, made.service.unit) == ("etcd", "k8s_etcd", "etcd")
    assert (made.paths.certificates, made.paths.data) == ("/etc/ssl/etcd/ssl", "/var/lib/etcd")
    assert (made.auto_compaction_retention, made.quota_backend_bytes) == ("8", 2 << 30)
    assert (made.flags["heartbeat-interval"], made.flags["election-timeout"]) == ("250", "5000")
    assert made.service.user == ("root" if has_unit else "etcd")
    assert made.adopted
    assert not any("/etc/etcd.env is on the hosts" in note for note in imported.notes)


def test_a_static_pod_of_kubeadm_keeps_its_certificates(tmp_path: Path) -> None:
    imported = from_files([written(tmp_path / "etcd.yaml", KUBEADM)])
    made = parse(imported.text, tmp_path / "cluster.yaml")
    assert [(host.name, host.address) for host in made.hosts] == [("node1", "10.0.0.1"), ("node2", "10.0.0.2")]
    assert made.tls.enabled
    assert made.paths.certificates == "/etc/etcd/cert"
    assert (made.auto_compaction_retention, made.quota_backend_bytes) == ("0", 2 << 30)
    assert any("/etc/kubernetes/pki/etcd" in note and "ca.key" in note for note in imported.notes)
    assert any("move its manifest out" in note for note in imported.notes)
    assert made.adopted


@pytest.mark.parametrize(
    ("text", "engine", "adopted"),
    [
        (KUBESPRAY, None, True),
        (KUBESPRAY, "etcd", True),
        (KUBESPRAY, "tercet", False),  # another engine is a change
    ],
)
def test_members_of_others_are_adopted_as_they_are(
    tmp_path: Path, text: str, engine: Literal["etcd", "tercet"] | None, adopted: bool
) -> None:
    imported = from_files([written(tmp_path / "etcd.env", text)], engine=engine)
    assert parse(imported.text, tmp_path / "cluster.yaml").adopted is adopted
    assert any("adopted: true" in note for note in imported.notes) is adopted


def test_a_unit_of_tercet_deploy_is_not_adopted(tmp_path: Path) -> None:
    unit = written(
        tmp_path / "etcd.service",
        "[Service]\nExecStart=/opt/etcd/current/bin/etcd --name=a --initial-cluster=a=https://10.0.0.1:2380\n",
    )
    assert not parse(from_files([unit]).text, tmp_path / "cluster.yaml").adopted


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("etcd.yaml", "kind: Pod\nspec: {containers: [{command: [sleep]}]}\n", "the pod does not run etcd"),
        ("etcd.yaml", "kind: Pod\nspec: {}\n", "not the manifest of a static pod"),
        ("etcd.yaml", "kind: Pod\nspec: [\n", "not the manifest of a static pod"),
        ("etcd.env", "ETCD_INITIAL_CLUSTER=a=http://10.0.0.1:2380\nnonsense\n", r"etcd\.env:2: 'nonsense' is not NAME=VALUE"),
    ],
)
def test_damaged_files_of_others_are_errors(tmp_path: Path, name: str, text: str, error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        from_files([written(tmp_path / name, text)])
