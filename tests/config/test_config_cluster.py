"""--initial-cluster and the checks of a first start, compared with etcd 3.5.1."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tercet.config.initial_cluster import check_initial_members, parse_initial_cluster
from tercet.errors import ConfigError, ListenerError
from tercet.server.client_listeners import ClientListeners
from tercet.server.hosting import Hosting
from tercet.server.startup_checks import check_listeners
from tests.config.configured import ETCD, config, refusal
from tests.support.waiting import scaled

CLUSTER = "--initial-cluster"
ADVERTISE = "--initial-advertise-peer-urls"


def resolve(host: str) -> str:
    if host == "nowhere.invalid":
        raise OSError("no such host")
    return {"one": "127.0.0.1", "two": "127.0.0.2"}.get(host, host)


def our_error(*arguments: str) -> str:
    found = config(*arguments)
    try:
        check_listeners(found)
        check_initial_members(found, parse_initial_cluster(found.initial_cluster), resolve)
    except ConfigError as error:
        return str(error)
    raise AssertionError("nothing is wrong")


def their_error(directory: Path, *arguments: str) -> str:
    done = subprocess.run([ETCD, *arguments], cwd=directory, capture_output=True, text=True, timeout=scaled(20), check=False)
    assert done.returncode == 1
    entries = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    error = str(next(entry["error"] for entry in entries if entry["msg"] == "discovery failed"))
    error = re.sub(r"127\.0\.0\.1:\d{4,5}: K", "127.0.0.1:0: K", error)  # the free port that it got
    since_3_6 = r'(resolved urls: "\1" != "\2")'
    return re.sub(r'\("(\S*)"\(resolved from "\S*"\) != "(\S*)"\(resolved from "\S*"\)\)', since_3_6, error)


@pytest.mark.parametrize(
    "arguments",
    [
        [CLUSTER, "y=http://127.0.0.1:1"],
        [CLUSTER, ""],
        [CLUSTER, "x=http://127.0.0.1:1"],
        [CLUSTER, "x=http://127.0.0.1:1", ADVERTISE, "http://127.0.0.1:1,http://127.0.0.1:2"],
        [CLUSTER, "x=http://127.0.0.1:1,x=http://127.0.0.1:2", ADVERTISE, "http://127.0.0.1:1"],
        [CLUSTER, "x=http://127.0.0.1:1,y=http://127.0.0.1:1", ADVERTISE, "http://127.0.0.1:1"],
        [CLUSTER, "x=http://127.0.0.1:3", ADVERTISE, "http://127.0.0.1:1"],
        [CLUSTER, "x=foo"],
        [CLUSTER, "x"],
        [CLUSTER, "x=http://127.0.0.1:1/path"],
        ["--listen-peer-urls", "https://127.0.0.1:0"],
        ["--listen-client-urls", "https://127.0.0.1:0", "--advertise-client-urls", "https://127.0.0.1:1"],
        ["--cipher-suites", "TLS_NOTHING"],
    ],
)
def test_errors_equal_those_of_etcd(arguments: list[str], tmp_path: Path) -> None:
    """etcd binds its ports before it checks these flags: port 0 picks free ones."""
    arguments = ["--name", "x", "--data-dir", str(tmp_path / "data"), *arguments]
    for flag, value in (
        ("--listen-peer-urls", "http://127.0.0.1:0"),
        ("--listen-client-urls", "http://127.0.0.1:0"),
        ("--advertise-client-urls", "http://127.0.0.1:9"),
    ):
        if flag not in arguments:
            arguments += [flag, value]
    assert our_error(*arguments) == their_error(tmp_path, *arguments)


def test_a_member_may_have_several_urls_and_empty_parts_are_skipped() -> None:
    found = parse_initial_cluster(",b=http://127.0.0.1:3,a=http://127.0.0.1:2,,a=http://127.0.0.1:1,")
    texts = {name: [url.text for url in urls] for name, urls in found.items()}
    assert texts == {"b": ["http://127.0.0.1:3"], "a": ["http://127.0.0.1:1", "http://127.0.0.1:2"]}


def test_names_of_the_same_address_match() -> None:
    found = config("--name", "x", CLUSTER, "x=http://one:1", ADVERTISE, "http://127.0.0.1:1")
    check_initial_members(found, parse_initial_cluster(found.initial_cluster), resolve)


@pytest.mark.parametrize("host", ["two", "nowhere.invalid"])
def test_names_of_different_addresses_do_not_match(host: str) -> None:
    error = our_error("--name", "x", CLUSTER, f"x=http://{host}:1", ADVERTISE, "http://127.0.0.1:1")
    assert error.startswith(f"--initial-cluster has x=http://{host}:1 but missing from ")


def test_the_second_version_of_discovery_is_refused() -> None:
    """As a flag with the exit code and the first line of etcd, which does not know it."""
    as_flag = refusal("--discovery", "http://example.com/1")
    lines = as_flag.error_text.splitlines()
    assert (as_flag.code, lines[0]) == (2, "flag provided but not defined: -discovery")
    assert "was removed from etcd; use --discovery-endpoints" in lines[1]
    as_variable = refusal(environ={"ETCD_DISCOVERY": "http://example.com/1"})
    assert (as_variable.code, str(as_variable)) == (1, lines[1])


def test_with_discovery_there_is_no_default_cluster() -> None:
    found = config("--discovery-srv", "example.com", "--name", "x")
    with pytest.raises(ConfigError, match="couldn't find local name"):
        check_initial_members(found, parse_initial_cluster(found.initial_cluster), resolve)


def test_certificates_beside_plain_urls_are_logged() -> None:
    found = config("--cert-file", "c", "--key-file", "k", "--client-cert-auth", "--peer-cert-file", "c", "--peer-key-file", "k")
    warned = [(dict(line.fields), line.message.partition(";")[0]) for line in check_listeners(found)]
    assert warned == [
        ({"peer-url": "http://localhost:2380"}, "scheme is HTTP while key and cert files are present"),
        ({"client-url": "http://localhost:2379"}, "scheme is http or unix while key and cert files are present"),
        ({"client-url": "http://localhost:2379"}, "scheme is http or unix while --client-cert-auth is enabled"),
    ]


def test_certificate_files_are_not_read_for_plain_listeners(tmp_path: Path) -> None:
    arguments = ("--cert-file", "/none", "--listen-client-urls", "http://127.0.0.1:0", "--advertise-client-urls", "http://a:1")
    found = config(*arguments)
    check_listeners(found)
    listeners = ClientListeners(found, tmp_path, Hosting())
    listeners.close_sockets()
    assert listeners.files.is_empty


def test_metrics_over_tls_require_a_certificate() -> None:
    with pytest.raises(ConfigError, match="must be provided for metrics secure url"):
        check_listeners(config("--listen-metrics-urls", "https://127.0.0.1:1"))


def test_a_certificate_without_its_key_is_refused(tmp_path: Path) -> None:
    found = config("--cert-file", "c", "--listen-metrics-urls", "https://127.0.0.1:1")
    with pytest.raises(ListenerError, match=r"KeyFile and CertFile must both be present\[key: , cert: c\]"):
        ClientListeners(found, tmp_path, Hosting())
