"""cluster.yaml: what it means, and that every mistake in it is named with line and field, all at once."""

from __future__ import annotations

import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.deploy.cluster.cluster_file import Cluster, ClusterFileError, HostSpec, Paths, load, parse
from tercet.deploy.cluster.engine_flags import MANAGED_FLAGS, InvalidFlag, check_name, check_value
from tercet.errors import ConfigError
from tests.support.properties import examples
from tests.support.waiting import scaled

HOSTS = """
hosts:
  - name: kube-node1
    address: 172.27.129.105
  - name: kube-node2
    address: 172.27.129.111
  - name: kube-node3
    address: 172.27.129.112
"""
SMALL = "name: demo" + HOSTS


def cluster(text: str) -> Cluster:
    return parse(textwrap.dedent(text), Path("/srv/cluster.yaml"))


def errors(text: str) -> list[str]:
    """Without the file's name: `12: hosts[1].address: ...`"""
    with pytest.raises(ClusterFileError) as caught:
        parse(textwrap.dedent(text), Path("c.yaml"))
    lines = str(caught.value).splitlines()
    assert all(line.startswith("c.yaml:") for line in lines)
    return [line.removeprefix("c.yaml:") for line in lines]


def warnings(text: str) -> list[str]:
    return [line.removeprefix("/srv/cluster.yaml:") for line in cluster(text).warnings]


def test_the_least_that_a_file_must_say() -> None:
    made = cluster(SMALL)
    assert [host.name for host in made.hosts] == ["kube-node1", "kube-node2", "kube-node3"]
    assert [host.line for host in made.hosts] == [3, 5, 7]
    assert (made.token, made.engine.kind, made.paths.install, made.paths.work) == (
        "demo",
        "tercet",
        "/opt/tercet",
        "/var/lib/etcd",
    )
    assert (made.service.user, made.service.group, made.paths.ca_file) == ("etcd", "etcd", "/etc/etcd/cert/ca.pem")
    assert made.tls.directory == Path("/srv/pki")
    assert (made.quota_backend_bytes, made.auto_compaction_mode, made.auto_compaction_retention) == (8 << 30, "periodic", "1h")
    assert made.warnings == ()


def test_urls_and_quorum() -> None:
    made = cluster(SMALL + "listen: {client_port: 3379, peer_port: 3380}\n")
    assert made.endpoints() == [f"https://172.27.129.{last}:3379" for last in (105, 111, 112)]
    assert made.peer_url(made.host("kube-node2")) == "https://172.27.129.111:3380"
    assert made.initial_cluster() == ",".join(f"{host.name}={made.peer_url(host)}" for host in made.hosts)
    assert [made.has_quorum_without(count) for count in range(4)] == [True, True, False, False]
    plain = cluster("name: a\nhosts: [{name: n1, address: 'fd00::1'}]\ntls: {enabled: false}\n")
    assert plain.client_url(plain.hosts[0]) == "http://[fd00::1]:2379"
    with pytest.raises(KeyError):
        made.host("kube-node4")


@pytest.mark.parametrize("count", range(1, 10))
def test_quorum_is_a_majority(count: int) -> None:
    hosts = tuple(HostSpec(name=f"n{number}", address=f"10.0.0.{number}") for number in range(count))
    made = Cluster(name="a", hosts=hosts, path=Path("c.yaml"))
    for down in range(count + 1):
        assert made.has_quorum_without(down) == (2 * (count - down) > count)


def test_hosts_inherit_and_override() -> None:
    made = cluster("""
        name: demo
        ssh: {user: admin, port: 2222, sudo: false, key: ~/.ssh/deploy}
        flags: {snapshot-count: 5000, pre-vote: true}
        hosts:
          - {name: n1, address: 10.0.0.1}
          - {name: n2, address: 10.0.0.2, ssh: {user: root, host: second, sudo: true}, flags: {snapshot-count: 0x10}}
          - {name: n3, address: 10.0.0.3, ssh: {port: null}}
    """)
    first, second, third = made.hosts
    assert (first.ssh.user, first.ssh.port, first.ssh.sudo, first.ssh.host) == ("admin", 2222, False, None)
    assert (second.ssh.user, second.ssh.port, second.ssh.sudo, second.ssh.host) == ("root", 2222, True, "second")
    assert second.ssh.key == Path("~/.ssh/deploy").expanduser()
    assert third.ssh.port is None
    assert made.flags_of(first) == {"snapshot-count": "5000", "pre-vote": "true"}
    assert made.flags_of(second) == {"snapshot-count": "0x10", "pre-vote": "true"}


def test_text_fields_are_taken_literally() -> None:
    made = cluster("""
        name: 1e3
        token: 010
        engine: {kind: etcd, source: etcd.tar.gz, version: 3.10}
        auto_compaction_retention: 8
        hosts: [{name: 1, address: 10.0.0.1}]
        flags: {auth-token: no, max-txn-ops: 1_000}
    """)
    assert (made.name, made.token, made.engine.version, made.auto_compaction_retention) == ("1e3", "010", "3.10", "8")
    assert (made.hosts[0].name, made.flags) == ("1", {"auth-token": "no", "max-txn-ops": "1_000"})
    assert made.engine.source == "/srv/etcd.tar.gz"
    assert made.paths.install == "/opt/etcd"


def test_empty_sections_and_aliases() -> None:
    made = cluster("""
        name: demo
        tls:
          # days: 3
        flags:
        hosts:
          - name: n1
            address: 10.0.0.1
            ssh: &way
              user: root
              port: 22
          - name: n2
            address: 10.0.0.2
            ssh: {<<: *way, port: 23}
          - name: n3
            address: 10.0.0.3
            ssh: *way
    """)
    assert [(host.ssh.user, host.ssh.port) for host in made.hosts] == [("root", 22), ("root", 23), ("root", 22)]


def test_all_errors_are_reported_with_line_and_field() -> None:
    text = """\
        name: demo
        hosts:
          - name: kube-node1
            address: 172.27.129.105
          - name: kube-node1
            address: 172.27.129.300
            ssh: {usr: root}
          - adress: 172.27.129.112
        listen:
          cleint_port: 2379
          peer_port: 99999
          peer_port: 2380
        engine:
          kind: etcd
        paths:
          data: /
        flags:
          quota-backend-bytes: 1
          pre_vote: true
          heartbeat-interval: fast
        client_port: 3
    """
    assert errors(text) == [
        "5: hosts[1].name: kube-node1 is also the name of hosts[0] (line 3); it must be unique",
        "6: hosts[1].address: '172.27.129.300' is not an IP address (four numbers from 0 to 255), "
        "and a DNS name does not end in a number",
        "7: hosts[1].ssh.usr: unknown field; did you mean user?",
        "8: hosts[2].adress: unknown field; did you mean address?",
        "8: hosts[2].name: is required",
        "10: listen.cleint_port: unknown field; did you mean client_port?",
        "11: listen.peer_port: 99999 is above the maximum of 65535",
        "12: listen.peer_port: duplicate key; the first is in line 11",
        "13: engine.source: is required: path or URL of an etcd release tarball for Linux",
        "16: paths.data: is the root directory; use a dedicated directory",
        "18: flags.quota-backend-bytes: is set by the deployment; use quota_backend_bytes",
        "19: flags.pre_vote: unknown flag of etcd; did you mean pre-vote?",
        "20: flags.heartbeat-interval: 'fast' is not a non-negative integer",
        "21: client_port: unknown field here; did you mean listen.client_port?",
    ]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("listen: [1]", "9: listen: a list is not a mapping"),
        ("listen: {client_port: '1'}", "9: listen.client_port: '1' is not a number"),
        ("listen: {client_port: true}", "9: listen.client_port: true is not a number"),
        ("listen: {client_port: 0}", "9: listen.client_port: 0 is below the minimum of 1"),
        ("listen: {client_port: 2380}", "9: listen.peer_port: 2380 is also listen.client_port"),
        ("listen: {loopback: 'yes'}", "9: listen.loopback: 'yes' is not true or false"),
        ("listen: {metrics_url: 'http://0.0.0.0:2379'}", "9: listen.metrics_url: port 2379 is also the client or peer port"),
        ("listen: {metrics_url: 'http://host:1'}", "9: listen.metrics_url: 'http://host:1' has no IP address to listen on"),
        ("listen: {metrics_url: ':1'}", "9: listen.metrics_url: "),
        ("engine: {kind: zookeeper}", "9: engine.kind: 'zookeeper' is not 'tercet' or 'etcd'"),
        ("engine: {source: 'http://h/x.tgz'}", "9: engine.sha256: is required for a plain HTTP source"),
        ("engine: {source: 'ftp://h/x'}", "9: engine.source: ftp:// is not supported"),
        ("engine: {source: 'https://u:p@h/x'}", "9: engine.source: contains credentials"),
        ("engine: {sha256: 123}", "9: engine.sha256: is not a SHA-256"),
        ("engine: {sha256: abc}", "9: engine.sha256: is not a SHA-256: 64 hexadecimal digits"),
        ("engine: {python: 'python3; id'}", "9: engine.python: 'python3; id' is neither an absolute path nor a name"),
        ("ssh: {host: x}", "9: ssh.host: is a setting of one host; set it under hosts[].ssh"),
        ("ssh: {user: '-oProxyCommand=id'}", "9: ssh.user: '-oProxyCommand=id' is not a login name"),
        ("ssh: {jump: '-x'}", "9: ssh.jump: '-x' is not a jump host"),
        ("ssh: {key: 5}", "9: ssh.key: is parsed as the number 5; quote it"),
        ("ssh: {connect_timeout: 0}", "9: ssh.connect_timeout: 0 is below the minimum of 0.1"),
        ("tls: {ca_key: a.pem}", "9: tls.ca_key: requires tls.ca_certificate as well"),
        ("tls: {key_algorithm: rsa, key_size: 1024}", "9: tls.key_size: 1024 is not a size of rsa keys; use 2048 to 8192"),
        ("tls: {key_size: 2048}", "9: tls.key_size: 2048 is not a size of ecdsa keys; use 256, 384 or 521"),
        ("tls: {names: {CN: x}}", "9: tls.names.CN: 'CN' is not 'C', 'ST', 'L', 'O' or 'OU'"),
        ("tls: {names: {C: China}}", "9: tls.names.C: 'China' is not a two-letter country code"),
        ("tls: {extra_hosts: [ok, 'a b']}", "9: tls.extra_hosts[1]: 'a b' is neither an IP address nor a DNS name"),
        ("paths: {data: var/lib}", "9: paths.data: 'var/lib' is not an absolute path"),
        (
            "paths: {data: /var/lib}",
            "9: paths.data: /var/lib is a system directory; use a dedicated one",
        ),
        ("paths: {data: /var/lib/../etc}", "9: paths.data: '/var/lib/../etc' contains '.', '..' or '//'"),
        ("paths: {data: '/data/$(id)'}", "9: paths.data: '/data/$(id)' contains '$()'; allowed are letters"),
        ("paths: {data: '/a b'}", "9: paths.data: '/a b' contains ' '"),
        ("paths: {data: '/a%i'}", "9: paths.data: '/a%i' contains '%'"),
        ("paths: {data: '/a\\nb'}", "9: paths.data: "),
        ("paths: {backups: /var/lib/etcd/b}", "9: paths.backups: /var/lib/etcd/b is inside paths.data (/var/lib/etcd)"),
        ("paths: {install: /var/lib}", "9: paths.install: /var/lib is a system directory"),
        ("paths: {install: /var/lib/etcd}", "9: paths.data: /var/lib/etcd is also paths.install"),
        ("paths: {wal: /var/lib/etcd}", "9: paths.wal: /var/lib/etcd is also paths.data"),
        ("paths: {bin: /opt/tercet}", "9: paths.bin: /opt/tercet is inside paths.install (/opt/tercet)"),
        ("paths: {ca: /etc/etcd/cert}", "9: paths.ca: /etc/etcd/cert is a directory"),
        ("service: {unit: 'etcd@.service'}", "9: service.unit: 'etcd@.service' is an instance of a template"),
        ("service: {unit: ../x}", "9: service.unit: '../x' is not a unit name"),
        ("service: {unit: sshd}", "9: service.unit: sshd.service is a unit of the system"),
        ("service: {user: 'a;b'}", "9: service.user: 'a;b' is not a user name"),
        ("service: {restart_seconds: 5s}", "9: service.restart_seconds: '5s' is not a number"),
        ("backups: {every: 'daily%n'}", "9: backups.every: 'daily%n' is not a systemd calendar expression"),
        ("backups: {keep: 0}", "9: backups.keep: 0 is below the minimum of 1"),
        ("quota_backend_bytes: 8 parsecs", "9: quota_backend_bytes: '8 parsecs' is not a size"),
        ("quota_backend_bytes: 0", "9: quota_backend_bytes: 0 is below the minimum of 1048576"),
        ("auto_compaction_mode: daily", "9: auto_compaction_mode: 'daily' is not 'periodic' or 'revision'"),
        ("auto_compaction_retention: often", "9: auto_compaction_retention: 'often' is not a duration such as 1h"),
        ("auto_compaction_retention: -1h", "9: auto_compaction_retention: '-1h' is not a duration"),
        ("auto_compaction_mode: revision", "9: auto_compaction_retention: '1h' is not a number of revisions"),
        ("token: a b", "9: token: 'a b' is not a valid name"),
        ("flags: []", "9: flags: a list is not a mapping"),
        ("flags: {--pre-vote: true}", "9: flags.--pre-vote: write it without dashes: pre-vote"),
        ("flags: {pre-vote: }", "9: flags.pre-vote: has no value"),
        ("flags: {pre-vote: maybe}", "9: flags.pre-vote: 'maybe' is not true or false"),
        ('flags: {auth-token: "a\\nb"}', "9: flags.auth-token: must be printable text on one line"),
        ("flags: {log-level: loud}", "9: flags.log-level: 'loud' is not one of debug, info"),
        ("flags: {backend-batch-interval: 5}", "9: flags.backend-batch-interval: '5' is not a duration such as 500ms"),
        ("flags: {election-timeout: 400}", "9: flags.election-timeout: election-timeout (400) must be at least five times"),
        ("flags: {election-timeout: 60000}", "9: flags.election-timeout: 60000 ms is above the maximum of 50000 ms"),
        ("flags: {force-new-cluster: true}", "9: flags.force-new-cluster: removes the other members"),
        ("flags: {discovery-token: x}", "9: flags.discovery-token: conflicts with hosts"),
        ("flags: {no-such-thing: x}", "9: flags.no-such-thing: unknown flag of tercet"),
        ("name: again", "9: name: duplicate key; the first is in line 1"),
        ("? [a]\n: 1", "9: keys must be scalars"),
        ("x-anything: 1", "9: x-anything: unknown field; known here: name, token, hosts"),
        (
            "service: !!python/object:os.system {}",
            "9: service: unsupported tag tag:yaml.org,2002:python/object:os.system",
        ),
    ],
)
def test_an_error_is_one_line(extra: str, message: str) -> None:
    lines = errors(f"{SMALL}{extra}\n")
    assert len(lines) == 1
    assert lines[0][: len(message)] == message


@pytest.mark.parametrize(
    ("hosts", "message"),
    [
        ("hosts: []", "2: hosts: is empty; at least one host is required, three are recommended"),
        ("hosts:", "2: hosts: nothing is not a list; each entry starts with a dash"),
        ("hosts: {a: b}", "2: hosts: a mapping is not a list"),
        ("hosts: [a]", "2: hosts[0]: 'a' is not a mapping"),
        ("", "1: hosts: is required"),
        (
            "hosts: [{name: a, address: 10.0.0.1}, {name: b, address: 10.0.0.1}]",
            "2: hosts[1].address: 10.0.0.1 is also the address",
        ),
        (
            "hosts: [{name: a, address: 'fd00::1'}, {name: b, address: 'fd00:0::1'}]",
            "2: hosts[1].address: fd00::1 is also the address",
        ),
        ("hosts: [{name: a, address: 'https://h'}]", "2: hosts[0].address: 'https://h' is not an address alone"),
        (
            "hosts: [{name: a, address: '10.0.0.1:2379'}]",
            "2: hosts[0].address: '10.0.0.1:2379' is not an address alone",
        ),
        ("hosts: [{name: a, address: 'fe80::1%eth0'}]", "2: hosts[0].address: fe80::1%eth0 has a zone"),
        ("hosts: [{name: a, address: 0.0.0.0}]", "2: hosts[0].address: 0.0.0.0 is not the address of a single host"),
        ("hosts: [{name: a=b, address: 10.0.0.1}]", "2: hosts[0].name: 'a=b' is not a valid name"),
        (
            "hosts: [{name: a, address: 127.0.0.1}, {name: b, address: 10.0.0.1}]",
            "2: hosts[0].address: 127.0.0.1 is a loopback address",
        ),
        (
            "hosts: [{name: a, address: h1, ssh: {host: x}}, {name: b, address: h2, ssh: {host: x}}]",
            "2: hosts[1].ssh.host: x is also the SSH host of hosts[0] (line 2)",
        ),
    ],
)
def test_errors_in_hosts(hosts: str, message: str) -> None:
    lines = errors(f"name: demo\n{hosts}\n")
    assert len(lines) == 1
    assert lines[0][: len(message)] == message


def test_warnings_name_the_line_and_do_not_fail() -> None:
    assert warnings("name: a\nhosts: [{name: n1, address: 10.0.0.1}]\n") == [
        "2: hosts: a single member: the cluster fails with its host"
    ]
    for address, clients in (
        ("0.0.0.0", "everyone who can reach it"),
        ("127.0.0.1", "every process on the host"),
    ):
        assert warnings(f"{SMALL}listen: {{metrics_url: 'http://{address}:2381'}}\n")[-1].endswith(
            f"listen.metrics_url: requires no certificate: metrics and health are open to {clients}"
        )
    even = "name: a\nhosts: [{name: n1, address: 10.0.0.1}, {name: n2, address: 10.0.0.2}]\n"
    assert warnings(even) == ["2: hosts: 2 members tolerate no more failures than 1; use an odd number"]
    found = warnings(
        SMALL
        + """
tls: {enabled: false}
engine: {source: "https://h/x.tgz"}
quota_backend_bytes: 16GiB
auto_compaction_retention: 0
service: {user: root}
flags: {debug: true, enable-pprof: true, unsafe-no-fsync: true}
"""
    )
    assert [line.split(": ")[:2] for line in found] == [
        ["10", "tls.enabled"],
        ["11", "engine.source"],
        ["12", "quota_backend_bytes"],
        ["13", "auto_compaction_retention"],
        ["14", "service.user"],
        ["15", "flags.debug"],
        ["15", "flags.enable-pprof"],
        ["15", "flags.unsafe-no-fsync"],
    ]


def test_a_dns_name_is_a_warning_about_its_listeners() -> None:
    (warning,) = warnings(SMALL.replace("172.27.129.111", "node2.example.com"))
    assert warning.endswith("node2.example.com is a DNS name, so the member listens on all addresses of its host (0.0.0.0)")


def test_a_plain_listener_is_a_warning() -> None:
    (warning,) = warnings(SMALL + "listen: {plain_loopback: true}\n")
    assert warning.startswith("9: listen.plain_loopback: http://127.0.0.1:2379 requires no certificate: every user and process")


@pytest.mark.parametrize(
    ("text", "size"),
    [("1048576", 1 << 20), ("8GiB", 8 << 30), ("'512 MiB'", 512 << 20), ("2g", 2 << 30), ("1TB", 1 << 40), ("4096k", 4 << 20)],
)
def test_sizes(text: str, size: int) -> None:
    assert cluster(f"{SMALL}quota_backend_bytes: {text}\n").quota_backend_bytes == size


def test_the_wal_may_be_inside_the_data() -> None:
    assert cluster(SMALL + "paths: {wal: /var/lib/etcd/wal/}\n").paths.wal == "/var/lib/etcd/wal"


def test_settings_are_validated_in_the_api() -> None:
    assert Paths(data="/data/etcd").work == "/data/etcd"
    with pytest.raises(ValueError, match="is a system directory"):
        Paths(data="/etc")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "1: the file is empty; create one with `tercet deploy init`"),
        (b"- a\n", "1: the file is not a mapping"),
        (b"name: [a\n", "2: invalid YAML: "),
        (b"name: a\nhosts:\n\t- name: x\n", "3: invalid YAML: tab used for indentation; use spaces"),
        (b"name: a\n--- \nname: b\n", "2: invalid YAML: "),
        (b"name: \x00\n", "1: invalid YAML: "),
        (b"name: \xff\xfe\n", "1: invalid YAML: "),
        (b"a: *nowhere\n", "1: invalid YAML: "),
        (b"[" * 5000, ": nested too deeply"),
        (b"x" * (1 << 19), ": larger than 262144 bytes"),
    ],
)
def test_invalid_files_are_rejected(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value).removeprefix(f"{path}").lstrip(":").startswith(message.lstrip(":"))
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file; create one with `tercet deploy init`"):
        load(tmp_path / "cluster.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_alias_expansion_is_bounded() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    start = time.monotonic()
    with pytest.raises(ConfigError, match="aliases expand to more than 20000 values"):
        parse("\n".join(lines), Path("c.yaml"))
    assert time.monotonic() - start < scaled(20)
    with pytest.raises(ConfigError, match="nested more than 20 levels deep"):
        parse("a: &a [*a]\n", Path("c.yaml"))


def test_the_number_of_shown_errors_is_limited() -> None:
    lines = errors(SMALL + "flags: {" + ", ".join(f"f{n}: 1" for n in range(100)) + "}\n")
    assert len(lines) == 41
    assert lines[-1] == " and 60 more"


def test_flags_of_an_engine_by_version() -> None:
    with pytest.raises(InvalidFlag, match=r"not available in etcd 3.5.1; use experimental-max-learners"):
        check_name("max-learners", engine="etcd", version="3.5.1")
    with pytest.raises(InvalidFlag, match=r"removed in etcd 3.7.0; use max-learners"):
        check_name("experimental-max-learners", engine="etcd", version="3.7.0")
    assert check_name("max-learners", engine="etcd", version="3.6.0") == ""
    assert check_name("max-learners", engine="etcd") == ""
    assert check_name("experimental-max-learners", engine="etcd") != ""
    for name in MANAGED_FLAGS:
        with pytest.raises(InvalidFlag):
            check_name(name, engine="tercet")
    check_value("feature-gates", "LeaseCheckpoint=true")


@examples(200)
@given(st.text(alphabet="abc:- \n{}[]&*!<|>'\"#,0123\t%@`?~=\\", max_size=80) | st.text(max_size=40))
def test_any_text_is_a_cluster_or_an_error(text: str) -> None:
    """Arbitrary input never raises another exception."""
    for candidate in (text, f"name: a\nhosts:\n  - {text}", f"{SMALL}flags:\n  {text}", f"{SMALL}{text}"):
        lines = ""
        try:
            parse(candidate, Path("c.yaml"))
        except ConfigError as error:
            lines = str(error)
        assert all(line.startswith("c.yaml:") for line in lines.splitlines())
