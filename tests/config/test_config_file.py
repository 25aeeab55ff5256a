"""--config-file: values, ignored keys, errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from tercet.config.server_config import ServerConfig
from tests.config.configured import config, loaded, messages, refusal


def written(directory: Path, text: str) -> str:
    path = directory / "etcd.yaml"
    path.write_text(text)
    return str(path)


def from_text(directory: Path, text: str) -> ServerConfig:
    return config("--config-file", written(directory, text))


def test_a_file_replaces_flags_and_environment(tmp_path: Path) -> None:
    path = written(tmp_path, "name: from-file\n")
    found = loaded("--config-file", path, "--wal-dir", "/w", environ={"ETCD_DATA_DIR": "/d"})
    assert (found.config.name, found.config.wal_dir, found.config.data_dir) == ("from-file", "", "from-file.etcd")
    assert any("will be ignored if provided" in text for text in messages(found.lines))


def test_a_file_named_by_the_environment(tmp_path: Path) -> None:
    path = written(tmp_path, "name: from-file\n")
    assert config("--name", "flag", environ={"ETCD_CONFIG_FILE": path}).name == "from-file"


def test_keys_of_every_kind(tmp_path: Path) -> None:
    found = from_text(
        tmp_path,
        """
name: n1
data-dir: /var/lib/etcd
listen-client-urls: https://127.0.0.1:2379,http://127.0.0.1:2378
heartbeat-interval: 50
pre-vote: false
backend-batch-interval: 5000000
cors: https://a.example:443,http://b.example:80
log-outputs: [stderr, stdout]
cipher-suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]
feature-gates: LeaseCheckpoint=true
client-transport-security: {cert-file: /c.crt, key-file: /c.key, client-cert-auth: true, trusted-ca-file: /ca.crt}
peer-transport-security: {cert-file: /p.crt, key-file: /p.key, allowed-cn: [a, b]}
socket-options: {reuse-port: true}
discovery-config: {client: {dial-timeout: 3000000000}}
auto-compaction-retention: "1"
""",
    )
    assert [url.text for url in found.listen_client_urls] == ["http://127.0.0.1:2378", "https://127.0.0.1:2379"]
    assert (found.heartbeat_interval, found.pre_vote, found.backend_batch_interval_seconds) == (50, False, 0.005)
    assert (found.cors, found.log_outputs) == (("http://b.example:80", "https://a.example:443"), ("stderr", "stdout"))
    assert (found.cert_file, found.client_cert_auth, found.trusted_ca_file) == ("/c.crt", True, "/ca.crt")
    assert (found.peer_key_file, found.peer_cert_allowed_cn) == ("/p.key", ("a", "b"))
    assert (found.socket_reuse_port, found.discovery_dial_timeout_seconds) == (True, 3.0)
    assert found.feature_gates["LeaseCheckpoint"]
    # Unlike on the command line, the default advertise URL stays.
    assert [url.text for url in found.advertise_client_urls] == ["http://localhost:2379"]


def test_json_files(tmp_path: Path) -> None:
    assert from_text(tmp_path, '{"name": "j", "peer-transport-security": {"auto-tls": true}}').peer_auto_tls


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8e9", 8_000_000_000),
        ("1e3", 1000),
        ("+1E+3", 1000),
        ("0128", 128),
        ("010", 8),
        ("0o17", 15),
        ("0b11", 3),
        ("1_000", 1000),
        ("-0x10", -16),
        ("1.0", 1),
    ],
)
def test_numbers_are_read_as_go_reads_them(tmp_path: Path, text: str, value: int) -> None:
    assert config("--config-file", written(tmp_path, f"quota-backend-bytes: {text}")).quota_backend_bytes == value


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("12:30:45", "string"),
        ("0x1p4", "string"),
        ("1e400", "string"),
        ("1.5", "number 1.5"),
        ("1e-2", "number 0.01"),
        ("1.0e19", "number 10000000000000000000"),
        ("10000000000000000000000", "number 1e+22"),
        ("yes", "bool"),
    ],
)
def test_what_is_no_integer_is_named_as_by_go(tmp_path: Path, text: str, shown: str) -> None:
    refused = refusal("--config-file", written(tmp_path, f"quota-backend-bytes: {text}"))
    error = f"json: cannot unmarshal {shown} into Go struct field configYAML.quota-backend-bytes of type int64"
    assert str(refused.lines[-1].fields["error"]).endswith(error)


@pytest.mark.parametrize("text", ["=", "<<", "1:30", "2001-01-01", "tRue", "0o8"])
def test_texts_that_yaml_1_1_reads_otherwise(tmp_path: Path, text: str) -> None:
    assert config("--config-file", written(tmp_path, f"initial-cluster-token: {text}")).initial_cluster_token == text


@pytest.mark.parametrize("text", [".inf", "-.Inf", ".nan"])
def test_numbers_that_json_does_not_have(tmp_path: Path, text: str) -> None:
    refused = refusal("--config-file", written(tmp_path, f"quota-backend-bytes: {text}"))
    assert "error converting YAML to JSON: json: unsupported value: " in str(refused.lines[-1].fields["error"])


def test_only_the_first_document_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, "quota-backend-bytes: 5\n---\nquota-backend-bytes: 6\n: : :")
    assert config("--config-file", path).quota_backend_bytes == 5


def test_unknown_keys_and_nulls_are_ignored(tmp_path: Path) -> None:
    found = from_text(tmp_path, "name: x\nbogus: 5\nwal-dir:\nclient-transport-security: {bogus: [1], cert-file: }\n")
    assert found.name == "x"


def test_a_retired_key_works_with_a_warning(tmp_path: Path) -> None:
    found = loaded("--config-file", written(tmp_path, "experimental-snapshot-catch-up-entries: 77\nenable-v2: true\n"))
    assert found.config.snapshot_catchup_entries == 77
    assert "--enable-v2 was removed from etcd and has no effect" in messages(found.lines)


def test_raft_timeouts_come_from_flags_even_with_a_file(tmp_path: Path) -> None:
    path = written(tmp_path, "name: x\n")
    assert config("--config-file", path, "--raft-read-timeout", "2s").raft_read_timeout_seconds == 2


def test_yaml_aliases_are_not_expanded_without_limit(tmp_path: Path) -> None:
    levels = "\n".join(f"k{level}: &k{level} [{', '.join([f'*k{level - 1}'] * 9)}]" for level in range(1, 30))
    assert from_text(tmp_path, f"k0: &k0 x\n{levels}\nname: y1\n").name == "y1"


def test_an_unreadable_file_is_a_one_line_error(tmp_path: Path) -> None:
    for text in ("a: [", "a: b: c", "\x00", "a: !!python/object:os.system x", "? [a]\n: b\n? {c: d}\n: e", "[" * 20_000):
        refused = refusal("--config-file", written(tmp_path, text))
        assert refused.code == 1
        assert "\n" not in str(refused.lines[-1].fields["error"])


def test_a_directory_as_file_is_named_as_in_etcd(tmp_path: Path) -> None:
    assert refusal("--config-file", str(tmp_path)).lines[-1].fields["error"] == f"read {tmp_path}: is a directory"


def test_an_endless_file_is_refused() -> None:
    assert "is refused" in str(refusal("--config-file", "/dev/zero"))


def test_discovery_replaces_the_default_cluster(tmp_path: Path) -> None:
    found = from_text(tmp_path, "discovery-srv: example.com\n")
    assert found.discovery_srv == "example.com"


@pytest.mark.parametrize("state", ["new", "existing"])
def test_cluster_states(tmp_path: Path, state: str) -> None:
    assert from_text(tmp_path, f"initial-cluster-state: {state}\n").initial_cluster_state == state
