"""cluster.yaml: what it means, and that every mistake in it is named with line and field, all at once."""

from __future__ import annotations

import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.deploy.cluster.cluster_file import Cluster, ClusterFileError, HostSpec, Paths, load, parse
from tercet.deploy.cluster.engine_flags import DECIDED, UnfitFlag, check_name, check_value
from tercet.errors import ConfigError

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


def complaints(text: str) -> list[str]:
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


def test_text_is_what_the_file_says_and_not_what_yaml_reads() -> None:
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


def test_sections_of_comments_and_aliases() -> None:
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


def test_every_mistake_at_once_with_line_and_field() -> None:
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
    assert complaints(text) == [
        "5: hosts[1].name: kube-node1 is the name of hosts[0] already (line 3); each member needs its own",
        "6: hosts[1].address: '172.27.129.300' is no IP address (four numbers from 0 to 255), "
        "and a DNS name does not end in a number",
        "7: hosts[1].ssh.usr: there is no such field; did you mean user?",
        "8: hosts[2].adress: there is no such field; did you mean address?",
        "8: hosts[2].name: is missing",
        "10: listen.cleint_port: there is no such field; did you mean client_port?",
        "11: listen.peer_port: 99999 is too much; the most is 65535",
        "12: listen.peer_port: is given twice; the first is in line 11",
        "13: engine.source: is missing: the path or URL of etcd's release tarball for Linux",
        "16: paths.data: is the root of the host's file system; name a directory of its own",
        "18: flags.quota-backend-bytes: is decided by the deployment; say it under quota_backend_bytes",
        "19: flags.pre_vote: etcd has no such flag; did you mean pre-vote?",
        "20: flags.heartbeat-interval: 'fast' is not a whole number from 0",
        "21: client_port: there is no such field here; did you mean listen.client_port?",
    ]


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        ("listen: [1]", "9: listen: a list is not a map of fields"),
        ("listen: {client_port: '1'}", "9: listen.client_port: '1' is not a number"),
        ("listen: {client_port: true}", "9: listen.client_port: true is not a number"),
        ("listen: {client_port: 0}", "9: listen.client_port: 0 is too little; the least is 1"),
        ("listen: {client_port: 2380}", "9: listen.peer_port: 2380 is listen.client_port already"),
        ("listen: {loopback: 'yes'}", "9: listen.loopback: 'yes' is not true or false"),
        ("listen: {metrics_url: 'http://0.0.0.0:2379'}", "9: listen.metrics_url: port 2379 is taken by the clients'"),
        ("listen: {metrics_url: 'http://host:1'}", "9: listen.metrics_url: 'http://host:1' names no IP address to listen on"),
        ("listen: {metrics_url: ':1'}", "9: listen.metrics_url: "),
        ("engine: {kind: zookeeper}", "9: engine.kind: 'zookeeper' is not 'tercet' or 'etcd'"),
        ("engine: {source: 'http://h/x.tgz'}", "9: engine.sha256: is missing: what comes over plain HTTP must be checked"),
        ("engine: {source: 'ftp://h/x'}", "9: engine.source: ftp:// is not supported"),
        ("engine: {source: 'https://u:p@h/x'}", "9: engine.source: carries a user name or password"),
        ("engine: {sha256: 123}", "9: engine.sha256: is no SHA-256"),
        ("engine: {sha256: abc}", "9: engine.sha256: is no SHA-256: 64 hexadecimal digits"),
        ("engine: {python: 'python3; id'}", "9: engine.python: 'python3; id' is neither an absolute path nor a name"),
        ("ssh: {host: x}", "9: ssh.host: is for one host; write it under hosts[].ssh"),
        ("ssh: {user: '-oProxyCommand=id'}", "9: ssh.user: '-oProxyCommand=id' is no login name"),
        ("ssh: {jump: '-x'}", "9: ssh.jump: '-x' is no jump host"),
        ("ssh: {key: 5}", "9: ssh.key: is read as the number 5; put text in quotes"),
        ("ssh: {connect_timeout: 0}", "9: ssh.connect_timeout: 0 is too little; the least is 0.1"),
        ("tls: {ca_key: a.pem}", "9: tls.ca_key: needs tls.ca_certificate beside it"),
        ("tls: {key_algorithm: rsa, key_size: 1024}", "9: tls.key_size: 1024 is no size of rsa keys; use 2048 to 8192"),
        ("tls: {key_size: 2048}", "9: tls.key_size: 2048 is no size of ecdsa keys; use 256, 384 or 521"),
        ("tls: {names: {CN: x}}", "9: tls.names.CN: 'CN' is not 'C', 'ST', 'L', 'O' or 'OU'"),
        ("tls: {names: {C: China}}", "9: tls.names.C: 'China' is not a country's code of two letters"),
        ("tls: {extra_hosts: [ok, 'a b']}", "9: tls.extra_hosts[1]: 'a b' is neither an IP address nor a DNS name"),
        ("paths: {data: var/lib}", "9: paths.data: 'var/lib' is no absolute path"),
        ("paths: {data: /var/lib}", "9: paths.data: /var/lib belongs to the system; name a directory of its own"),
        ("paths: {data: /var/lib/../etc}", "9: paths.data: '/var/lib/../etc' holds '.', '..' or '//'"),
        ("paths: {data: '/data/$(id)'}", "9: paths.data: '/data/$(id)' holds '$()'; a path on a host has letters"),
        ("paths: {data: '/a b'}", "9: paths.data: '/a b' holds ' '"),
        ("paths: {data: '/a%i'}", "9: paths.data: '/a%i' holds '%'"),
        ("paths: {data: '/a\\nb'}", "9: paths.data: "),
        ("paths: {backups: /var/lib/etcd/b}", "9: paths.backups: /var/lib/etcd/b is inside paths.data (/var/lib/etcd)"),
        ("paths: {install: /var/lib}", "9: paths.install: /var/lib belongs to the system"),
        ("paths: {install: /var/lib/etcd}", "9: paths.data: /var/lib/etcd is paths.install already"),
        ("paths: {wal: /var/lib/etcd}", "9: paths.wal: /var/lib/etcd is paths.data already"),
        ("paths: {bin: /opt/tercet}", "9: paths.bin: /opt/tercet is inside paths.install (/opt/tercet)"),
        ("paths: {ca: /etc/etcd/cert}", "9: paths.ca: /etc/etcd/cert is a directory"),
        ("service: {unit: 'etcd@.service'}", "9: service.unit: 'etcd@.service' is an instance of a template"),
        ("service: {unit: ../x}", "9: service.unit: '../x' is no name of a unit"),
        ("service: {unit: sshd}", "9: service.unit: sshd.service belongs to the system"),
        ("service: {user: 'a;b'}", "9: service.user: 'a;b' is no user's name"),
        ("service: {restart_seconds: 5s}", "9: service.restart_seconds: '5s' is not a number"),
        ("backups: {every: 'daily%n'}", "9: backups.every: 'daily%n' is no systemd calendar expression"),
        ("backups: {keep: 0}", "9: backups.keep: 0 is too little; the least is 1"),
        ("quota_backend_bytes: 8 parsecs", "9: quota_backend_bytes: '8 parsecs' is no size"),
        ("quota_backend_bytes: 0", "9: quota_backend_bytes: 0 is too little; the least is 1048576"),
        ("auto_compaction_mode: daily", "9: auto_compaction_mode: 'daily' is not 'periodic' or 'revision'"),
        ("auto_compaction_retention: often", "9: auto_compaction_retention: 'often' is not a duration such as 1h"),
        ("auto_compaction_retention: -1h", "9: auto_compaction_retention: '-1h' is not a duration"),
        ("auto_compaction_mode: revision", "9: auto_compaction_retention: '1h' is not a number of revisions"),
        ("token: a b", "9: token: 'a b' is no name"),
        ("flags: []", "9: flags: a list is not a map of fields"),
        ("flags: {--pre-vote: true}", "9: flags.--pre-vote: write it without dashes: pre-vote"),
        ("flags: {pre-vote: }", "9: flags.pre-vote: has no value"),
        ("flags: {pre-vote: maybe}", "9: flags.pre-vote: 'maybe' is not true or false"),
        ('flags: {auth-token: "a\\nb"}', "9: flags.auth-token: must be printable text on one line"),
        ("flags: {log-level: loud}", "9: flags.log-level: 'loud' is not one of debug, info"),
        ("flags: {backend-batch-interval: 5}", "9: flags.backend-batch-interval: '5' is not a duration such as 500ms"),
        ("flags: {election-timeout: 400}", "9: flags.election-timeout: election-timeout (400) must be at least five times"),
        ("flags: {election-timeout: 60000}", "9: flags.election-timeout: 60000 ms is more than the 50000"),
        ("flags: {force-new-cluster: true}", "9: flags.force-new-cluster: throws the other members out"),
        ("flags: {discovery-token: x}", "9: flags.discovery-token: the members are those under hosts"),
        ("flags: {no-such-thing: x}", "9: flags.no-such-thing: tercet has no such flag"),
        ("name: again", "9: name: is given twice; the first is in line 1"),
        ("? [a]\n: 1", "9: a key must be a word"),
        ("x-anything: 1", "9: x-anything: there is no such field; here are name, token, hosts"),
        (
            "service: !!python/object:os.system {}",
            "9: service: has the tag tag:yaml.org,2002:python/object:os.system, which has no meaning here",
        ),
    ],
)
def test_a_mistake_is_told_in_one_line(extra: str, complaint: str) -> None:
    told = complaints(f"{SMALL}{extra}\n")
    assert len(told) == 1
    assert told[0][: len(complaint)] == complaint


@pytest.mark.parametrize(
    ("hosts", "complaint"),
    [
        ("hosts: []", "2: hosts: there are none; name at least one, better three"),
        ("hosts:", "2: hosts: nothing is not a list; each entry is a line that begins with a dash"),
        ("hosts: {a: b}", "2: hosts: a map is not a list"),
        ("hosts: [a]", "2: hosts[0]: 'a' is not a map of fields"),
        ("", "1: hosts: is missing"),
        ("hosts: [{name: a, address: 10.0.0.1}, {name: b, address: 10.0.0.1}]", "2: hosts[1].address: 10.0.0.1 is the address"),
        (
            "hosts: [{name: a, address: 'fd00::1'}, {name: b, address: 'fd00:0::1'}]",
            "2: hosts[1].address: fd00::1 is the address",
        ),
        ("hosts: [{name: a, address: 'https://h'}]", "2: hosts[0].address: 'https://h' has more than an address"),
        ("hosts: [{name: a, address: '10.0.0.1:2379'}]", "2: hosts[0].address: '10.0.0.1:2379' has more than an address"),
        ("hosts: [{name: a, address: 0.0.0.0}]", "2: hosts[0].address: 0.0.0.0 is no address of one host"),
        ("hosts: [{name: a=b, address: 10.0.0.1}]", "2: hosts[0].name: 'a=b' is no name"),
        ("hosts: [{name: a, address: 127.0.0.1}, {name: b, address: 10.0.0.1}]", "2: hosts[0].address: 127.0.0.1 is this host"),
        (
            "hosts: [{name: a, address: h1, ssh: {host: x}}, {name: b, address: h2, ssh: {host: x}}]",
            "2: hosts[1].ssh.host: x is the SSH host of hosts[0] already (line 2)",
        ),
    ],
)
def test_mistakes_in_hosts(hosts: str, complaint: str) -> None:
    told = complaints(f"name: demo\n{hosts}\n")
    assert len(told) == 1
    assert told[0][: len(complaint)] == complaint


def test_warnings_are_no_errors_and_name_the_line() -> None:
    assert warnings("name: a\nhosts: [{name: n1, address: 10.0.0.1}]\n") == [
        "2: hosts: a single member: the cluster stops when its host does"
    ]
    for address, whom in (
        ("0.0.0.0", "whoever reaches it"),
        ("127.0.0.1", "every process on the host, and to who tunnels to it"),
    ):
        assert warnings(f"{SMALL}listen: {{metrics_url: 'http://{address}:2381'}}\n")[-1].endswith(
            f"listen.metrics_url: is open to {whom}: metrics and health without a certificate"
        )
    even = "name: a\nhosts: [{name: n1, address: 10.0.0.1}, {name: n2, address: 10.0.0.2}]\n"
    assert warnings(even) == [
        "2: hosts: 2 members endure no more failures than 1, and more of them can fail; use an odd number"
    ]
    said = warnings(
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
    assert [line.split(": ")[:2] for line in said] == [
        ["10", "tls.enabled"],
        ["11", "engine.source"],
        ["12", "quota_backend_bytes"],
        ["13", "auto_compaction_retention"],
        ["14", "service.user"],
        ["15", "flags.debug"],
        ["15", "flags.enable-pprof"],
        ["15", "flags.unsafe-no-fsync"],
    ]


def test_a_plain_listener_says_what_it_exposes() -> None:
    (said,) = warnings(SMALL + "listen: {plain_loopback: true}\n")
    assert said.startswith("9: listen.plain_loopback: http://127.0.0.1:2379 needs no certificate: every process and every user")


@pytest.mark.parametrize(
    ("text", "size"),
    [("1048576", 1 << 20), ("8GiB", 8 << 30), ("'512 MiB'", 512 << 20), ("2g", 2 << 30), ("1TB", 1 << 40), ("4096k", 4 << 20)],
)
def test_sizes(text: str, size: int) -> None:
    assert cluster(f"{SMALL}quota_backend_bytes: {text}\n").quota_backend_bytes == size


def test_the_wal_may_be_inside_the_data() -> None:
    assert cluster(SMALL + "paths: {wal: /var/lib/etcd/wal/}\n").paths.wal == "/var/lib/etcd/wal"


def test_settings_are_checked_also_where_a_program_makes_them() -> None:
    assert Paths(data="/data/etcd").work == "/data/etcd"
    with pytest.raises(ValueError, match="belongs to the system"):
        Paths(data="/etc")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "1: is empty; `tercet deploy init` writes one"),
        (b"- a\n", "1: is not a map of fields"),
        (b"name: [a\n", "2: is no YAML: "),
        (b"name: a\nhosts:\n\t- name: x\n", "3: is no YAML: a tab stands where YAML wants spaces"),
        (b"name: a\n--- \nname: b\n", "2: is no YAML: "),
        (b"name: \x00\n", "1: is no YAML: "),
        (b"name: \xff\xfe\n", "1: is no YAML: "),
        (b"a: *nowhere\n", "1: is no YAML: "),
        (b"[" * 5000, ": is nested too deeply"),
        (b"x" * (1 << 19), ": is larger than 262144 bytes"),
    ],
)
def test_what_is_no_cluster_file(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value).removeprefix(f"{path}").lstrip(":").startswith(complaint.lstrip(":"))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file; `tercet deploy init` writes one"):
        load(tmp_path / "cluster.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_aliases_cannot_blow_up() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    start = time.monotonic()
    with pytest.raises(ConfigError, match="aliases unfold into more than 20000 values"):
        parse("\n".join(lines), Path("c.yaml"))
    assert time.monotonic() - start < 5
    with pytest.raises(ConfigError, match="is nested more than 20 levels deep"):
        parse("a: &a [*a]\n", Path("c.yaml"))


def test_only_so_many_mistakes_are_shown() -> None:
    told = complaints(SMALL + "flags: {" + ", ".join(f"f{n}: 1" for n in range(100)) + "}\n")
    assert len(told) == 41
    assert told[-1] == " and 60 more"


def test_flags_of_an_engine_by_version() -> None:
    with pytest.raises(UnfitFlag, match=r"etcd 3.5.1 does not have it yet; use experimental-max-learners"):
        check_name("max-learners", engine="etcd", version="3.5.1")
    with pytest.raises(UnfitFlag, match=r"etcd 3.7.0 no longer has it; use max-learners"):
        check_name("experimental-max-learners", engine="etcd", version="3.7.0")
    assert check_name("max-learners", engine="etcd", version="3.6.0") == ""
    assert check_name("max-learners", engine="etcd") == ""
    assert check_name("experimental-max-learners", engine="etcd") != ""
    for name in DECIDED:
        with pytest.raises(UnfitFlag):
            check_name(name, engine="tercet")
    check_value("feature-gates", "LeaseCheckpoint=true")


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="abc:- \n{}[]&*!<|>'\"#,0123\t%@`?~=\\", max_size=80) | st.text(max_size=40))
def test_no_text_is_too_odd(text: str) -> None:
    """Whatever stands there: a cluster, or a complaint."""
    for candidate in (text, f"name: a\nhosts:\n  - {text}", f"{SMALL}flags:\n  {text}", f"{SMALL}{text}"):
        told = ""
        try:
            parse(candidate, Path("c.yaml"))
        except ConfigError as error:
            told = str(error)
        assert all(line.startswith("c.yaml:") for line in told.splitlines())
