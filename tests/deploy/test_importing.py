"""Import of manual deployments: environment.sh and units of etcd are parsed, never executed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tercet.deploy.draft.importing import from_files
from tercet.deploy.draft.shell_assignments import read_script
from tercet.errors import ConfigError
from tests.deploy.imported import ENVIRONMENT, MEMBERS, environment, loaded, written
from tests.support.waiting import scaled


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


def test_a_large_file_is_reported_as_too_large(tmp_path: Path) -> None:
    """Also if the size limit falls inside a multi-byte character."""
    path = tmp_path / "environment.sh"
    path.write_text("##" + "é" * (1 << 17))
    with pytest.raises(ConfigError, match=": larger than"):
        from_files([path])
