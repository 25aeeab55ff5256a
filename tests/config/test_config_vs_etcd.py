"""The same invalid configurations given to etcd 3.5.1 and tercet: same exit code, same text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.config.configured import etcds, ours

COMMAND_LINES = [
    "--bogus 1",
    "--name",
    "-=x",
    "---x",
    "--heartbeat-interval abc",
    "--snapshot-count -1",
    "--max-txn-ops 99999999999999999999",
    "--backend-batch-limit 1.5",
    "--backend-batch-interval xx",
    "--grpc-keepalive-min-time 5",
    "--pre-vote=maybe",
    "--initial-cluster-state foo",
    "--discovery-fallback foo",
    "--listen-peer-urls foo",
    "--listen-peer-urls ,",
    "--listen-peer-urls ::",
    "--listen-peer-urls http://localhost",
    "--listen-peer-urls http://127.0.0.1:80/a",
    "--listen-peer-urls http://127.0.0.1:abc",
    "--listen-peer-urls http://[::1:2380",
    "--listen-peer-urls http://foo.com:80",
    "--listen-metrics-urls http://foo.com:80",
    "--initial-advertise-peer-urls http://:2380",
    "--listen-client-urls http://127.0.0.1:2379",
    "--cors foo",
    "--cors=",
    "--cors *,http://a.example:80",
    "--listen-client-urls=",
    "--heartbeat-interval 0",
    "--election-timeout 0",
    "--heartbeat-interval 300",
    "--election-timeout 60000",
    "--auto-compaction-mode x",
    "--logger capnslog",
    "--logger x",
    "--log-outputs default,stderr",
    "--enable-log-rotation",
    '--enable-log-rotation --log-outputs x.log --log-rotation-config-json {"maxsize":"x"}',
]
FILES = [
    "heartbeat-interval: abc",
    "heartbeat-interval: 1.5",
    "heartbeat-interval: -5",
    "heartbeat-interval: true",
    "name: 5",
    "name: y",
    "pre-vote: 5",
    "backend-batch-interval: 5s",
    "log-outputs: stderr",
    "log-outputs: [5]",
    "listen-peer-urls: foo",
    "listen-client-urls: http://foo.com:1",
    "advertise-client-urls: foo",
    "initial-cluster-state: foo",
    "peer-transport-security: 5",
    "client-transport-security: {cert-file: 5}",
    "client-transport-security: {client-cert-auth: x}",
    "[1]",
    "foo",
    "auto-compaction-retention: 1",
    "heartbeat-interval: 0",
    "name: 5\nheartbeat-interval: abc",
    '{"election-timeout": 0, "log-level": 5}',
]


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_command_line(line: str, tmp_path: Path) -> None:
    arguments = line.split(" ")
    assert ours(arguments, {}) == etcds(arguments, {}, tmp_path)


@pytest.mark.parametrize("line", ["extraarg", "--pre-vote true", "--snapshot x"])
def test_extra_arguments(line: str, tmp_path: Path) -> None:
    """etcd 3.5.1 prints single quotes, 3.7 double quotes."""
    theirs = etcds(line.split(" "), {}, tmp_path)
    assert ours(line.split(" "), {}) == replace(theirs, error=theirs.error.replace("'", '"'))


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        ({"ETCD_HEARTBEAT_INTERVAL": "abc"}, ""),
        ({"ETCD_PRE_VOTE": "maybe"}, ""),
        ({"ETCD_LISTEN_PEER_URLS": "foo"}, ""),
        ({"ETCD_INITIAL_CLUSTER_STATE": "foo"}, ""),
        ({"ETCD_NAME": "a"}, "--name b"),
        ({"ETCD_NAME": ""}, "--name b"),
        ({"ETCD_FOO": "bar", "ETCD_VERSION": "x"}, "--heartbeat-interval 0"),
        ({"ETCD_CONFIG_FILE": "/nope"}, "--name x"),
        ({"ETCD_HEARTBEAT_INTERVAL": "x", "ETCD_PRE_VOTE": "x"}, ""),
    ],
)
def test_environment(environ: dict[str, str], line: str, tmp_path: Path) -> None:
    arguments = line.split()
    assert ours(arguments, environ) == etcds(arguments, environ, tmp_path)


@pytest.mark.parametrize("text", FILES)
def test_config_file(text: str, tmp_path: Path) -> None:
    path = tmp_path / "etcd.yaml"
    path.write_text(text)
    arguments = ["--config-file", str(path)]
    assert ours(arguments, {}) == etcds(arguments, {}, tmp_path)


def test_missing_file(tmp_path: Path) -> None:
    arguments = ["--config-file", str(tmp_path / "none")]
    assert ours(arguments, {}) == etcds(arguments, {}, tmp_path)


def test_an_unknown_log_level_exits_with_two(tmp_path: Path) -> None:
    assert ours(["--log-level", "loud"], {}) == etcds(["--log-level", "loud"], {}, tmp_path)
