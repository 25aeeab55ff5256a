"""Unit files of others become a cluster file: templates, units of members, and files that contradict each other."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.deploy.cluster.cluster_file import parse
from tercet.deploy.draft.importing import from_environment_sh, from_files, from_unit
from tercet.deploy.draft.shell_assignments import read_script
from tercet.deploy.draft.unit_reading import read_unit, split_words
from tercet.deploy.plan.unit import unit_text
from tercet.errors import ConfigError
from tests.deploy.imported import ENVIRONMENT, MEMBERS, UNIT, environment, loaded, unit, unit_with, written
from tests.support.properties import examples


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
