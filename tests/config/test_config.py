"""Flags, the flag table, and the ServerConfig derived from them."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.config.feature_gates import resolve_gates
from tercet.config.flag_reference import flag_list, page
from tercet.config.flag_table import FLAGS, RETIRED
from tercet.config.server_config import ServerConfig
from tercet.config.startup_error import StartupError
from tests.config.configured import config, loaded, messages, refusal

ROOT = Path(__file__).parents[2]


def test_the_configuration_has_a_field_for_each_flag_and_no_other() -> None:
    assert list(ServerConfig._fields) == [flag.field for flag in FLAGS.values()]


def test_the_reference_page_is_up_to_date() -> None:
    assert (ROOT / "docs" / "flags.md").read_text() == page(), "python -m tercet.config.flag_reference > docs/flags.md"


def test_each_flag_has_a_default_that_parses_and_a_place_in_help() -> None:
    listed = flag_list()
    for flag in FLAGS.values():
        flag.parse(flag.default)
        assert f"  --{flag.name} '" in listed
        assert flag.group
        assert flag.help


def test_retired_flags_refer_to_existing_flags_and_gates() -> None:
    gates = resolve_gates({})
    for retired in RETIRED.values():
        assert not retired.now or retired.now in FLAGS
        assert not retired.gate or retired.gate in gates
        assert retired.name not in FLAGS


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["-name", "a"], "a"),
        (["--name", "a"], "a"),
        (["-name=a"], "a"),
        (["--name=a=b"], "a=b"),
        (["--name="], ""),
        (["--name", "a", "--name", "b"], "b"),
        (["--name", "-x"], "-x"),
        (["--snapshot", "--name", "a"], "a"),
        (["--v=3", "--name", "a"], "a"),
        (["--name", "a", "--"], "a"),
    ],
)
def test_gos_flag_syntax(arguments: list[str], name: str) -> None:
    assert config(*arguments).name == name


@pytest.mark.parametrize(
    ("text", "value"), [("", True), ("=true", True), ("=1", True), ("=T", True), ("=0", False), ("=f", False)]
)
def test_booleans_take_a_value_only_after_an_equals_sign(text: str, value: bool) -> None:
    assert config(f"--pre-vote{text}").pre_vote is value


def test_an_argument_after_a_boolean_is_not_its_value() -> None:
    assert refusal("--pre-vote", "true").lines[-1].fields == {"error": '"true" is not a valid flag'}


@pytest.mark.parametrize("command", ["gateway", "grpc-proxy"])
def test_etcds_proxies_are_refused_with_what_to_do(command: str) -> None:
    error = str(refusal(command, "start", "--endpoints=a:1"))
    assert error.startswith(f'"{command}" is not a valid flag: tercet has no {command}; etcd\'s works in front of tercet')


@pytest.mark.parametrize(("text", "value"), [("0x10", 16), ("010", 8), ("0o17", 15), ("0b11", 3), ("1_000", 1000)])
def test_integers_are_gos(text: str, value: int) -> None:
    assert config("--max-txn-ops", text).max_txn_ops == value


def test_a_misspelt_flag_is_suggested() -> None:
    refused = refusal("--lisen-client-urls", "http://127.0.0.1:1")
    assert refused.code == 2
    assert refused.error_text.splitlines()[:2] == [
        "flag provided but not defined: -lisen-client-urls",
        "did you mean --listen-client-urls?",
    ]


def test_an_unknown_flag_without_a_similar_one_has_no_suggestion() -> None:
    assert "did you mean" not in refusal("--bogus").error_text


def test_version_has_four_lines() -> None:
    refused = refusal("--version")
    assert refused.code == 0
    names = [line.partition(": ")[0] for line in refused.out.splitlines()]
    assert names == ["etcd Version", "Git SHA", "Go Version", "Go OS/Arch"]
    assert refused.out.startswith("etcd Version: 3.7.3\n")


@pytest.mark.parametrize("flag", ["-h", "--help", "-help"])
def test_help_goes_to_stdout_and_its_usage_to_stderr(flag: str) -> None:
    refused = refusal(flag)
    assert refused.code == 0
    assert refused.error_text.startswith("Usage:")
    assert "--listen-client-urls 'http://localhost:2379'" in refused.out


def test_precedence_of_flag_variable_and_default() -> None:
    environ = {"ETCD_NAME": "from-env", "ETCD_DATA_DIR": "/from-env"}
    found = config("--wal-dir", "/w", environ=environ)
    assert (found.name, found.data_dir, found.wal_dir, found.initial_cluster_token) == (
        "from-env",
        "/from-env",
        "/w",
        "etcd-cluster",
    )


def test_an_empty_variable_is_not_set() -> None:
    assert config(environ={"ETCD_NAME": ""}).name == "default"


def test_variables_are_logged_without_passwords() -> None:
    environ = {"ETCD_NAME": "n", "ETCD_TYPO": "x", "ETCD_ROOT_PASSWORD": "hunter2", "PATH": "/bin", "ETCD_VERSION": "9"}
    lines = loaded(environ=environ).lines
    shown = [dict(line.fields) for line in lines[:4]]
    assert shown == [
        {"key": "ETCD_VERSION", "value": "9"},
        {"variable-name": "ETCD_NAME", "variable-value": "n"},
        {"environment-variable": "ETCD_TYPO=x"},
        {"environment-variable": "ETCD_ROOT_PASSWORD=***"},
    ]
    assert "hunter2" not in repr(lines)


def test_initial_cluster_defaults_to_this_member() -> None:
    found = config("--name", "n1", "--initial-advertise-peer-urls", "http://10.0.0.1:2380,http://10.0.0.2:2380")
    assert found.initial_cluster == "n1=http://10.0.0.1:2380,n1=http://10.0.0.2:2380"


def test_the_data_directory_is_named_after_the_member() -> None:
    found = loaded("--name", "n1")
    assert found.config.data_dir == "n1.etcd"
    assert "'data-dir' was empty; using default" in messages(found.lines)


def test_advertise_is_required_with_listen() -> None:
    refused = refusal("--listen-client-urls", "http://127.0.0.1:2379")
    assert messages(refused.lines)[-2:] == ["failed to verify flags", "advertise client URLs are not set"]
    assert refused.code == 1


def test_listening_everywhere_advertises_the_default_host() -> None:
    arguments = ("--name", "n", "--listen-peer-urls", "http://0.0.0.0:2390", "--data-dir", "d")
    found = loaded(*arguments, host="10.1.2.3")
    assert [url.text for url in found.config.initial_advertise_peer_urls] == ["http://10.1.2.3:2390"]
    assert found.config.initial_cluster == "n=http://10.1.2.3:2390"
    assert "detected default host for advertise" in messages(found.lines)
    assert [url.text for url in loaded(*arguments).config.initial_advertise_peer_urls] == ["http://localhost:2380"]


def test_zero_stands_for_the_default() -> None:
    found = config("--snapshot-count", "0", "--quota-backend-bytes", "0")
    assert (found.snapshot_count, found.quota_backend_bytes) == (10_000, 2 << 30)
    assert (found.backend_batch_interval_seconds, found.backend_batch_limit) == (0.1, 10_000)
    assert (found.watch_progress_notify_interval_seconds, found.warning_unary_request_duration_seconds) == (600.0, 0.3)
    assert config("--quota-backend-bytes", "-1").quota_backend_bytes == -1


def test_values_out_of_bounds_are_adjusted_with_a_log_line() -> None:
    found = loaded("--raft-read-timeout", "1s", "--bcrypt-cost", "99", "--watch-progress-notify-interval", "1ms")
    assert found.config.raft_read_timeout_seconds == 5
    assert found.config.bcrypt_cost == 10
    assert found.config.watch_progress_notify_interval_seconds == 0.1
    said = messages(found.lines)
    assert "raft-read-timeout increased to minimum value: 5s" in said
    assert "use default bcrypt cost instead of the invalid given cost" in said
    assert "adjusting watch progress notify interval to minimum period" in said
    assert config("--watch-progress-notify-interval", "-1s").watch_progress_notify_interval_seconds == 600


def test_urls_that_are_given_empty_keep_their_default() -> None:
    found = config("--listen-peer-urls=", "--initial-advertise-peer-urls=", "--advertise-client-urls=")
    assert [url.text for url in found.listen_peer_urls] == ["http://localhost:2380"]
    assert [url.text for url in found.initial_advertise_peer_urls] == ["http://localhost:2380"]
    assert [url.text for url in found.advertise_client_urls] == ["http://localhost:2379"]
    assert config("--listen-metrics-urls=").listen_metrics_urls == ()


def test_a_list_of_names_that_is_given_empty_admits_none() -> None:
    """It has one element, the empty text, as in etcd: a variable of a unit file that is not set must not admit everybody."""
    found = config("--peer-cert-allowed-cn=", "--client-cert-allowed-hostname=", "--host-whitelist=")
    assert found.peer_cert_allowed_cn == found.client_cert_allowed_hostname == found.host_whitelist == ("",)
    assert config().peer_cert_allowed_cn == ()
    assert refusal("--discovery-endpoints=").code == 1


def test_an_empty_log_format_is_json() -> None:
    assert loaded("--log-format=").settings.json


def test_durations_are_in_seconds() -> None:
    assert config("--grpc-keepalive-interval", "1m30s").grpc_keepalive_interval_seconds == 90


@pytest.mark.parametrize("retired", ["--experimental-compaction-batch-limit=7", "--experimental-compaction-batch-limit 7"])
def test_a_retired_name_sets_the_current_flag_with_a_warning(retired: str) -> None:
    found = loaded(*retired.split())
    assert found.config.compaction_batch_limit == 7
    assert "--experimental-compaction-batch-limit is an older name; use --compaction-batch-limit instead" in messages(
        found.lines
    )


def test_the_current_name_wins_over_the_retired_one() -> None:
    assert config("--max-learners=3", "--experimental-max-learners=7").max_learners == 3


def test_a_retired_flag_sets_its_gate() -> None:
    found = config("--experimental-enable-lease-checkpoint", "--experimental-enable-lease-checkpoint-persist")
    assert found.feature_gates["LeaseCheckpoint"]
    assert found.feature_gates["LeaseCheckpointPersist"]


def test_a_retired_flag_without_a_successor_is_accepted() -> None:
    found = loaded("--enable-v2=false", "--proxy=off", environ={"ETCD_PROXY_READ_TIMEOUT": "0"})
    warned = messages(found.lines)
    assert "--enable-v2 was removed from etcd and has no effect" in warned
    assert "--proxy-read-timeout was removed from etcd and has no effect" in warned


def test_proxy_on_is_refused() -> None:
    assert refusal("--proxy=on").code == 1


@pytest.mark.parametrize(
    ("text", "level"), [("WARN", logging.WARNING), ("Info", logging.INFO), ("warning", logging.WARNING), ("", logging.INFO)]
)
def test_log_levels_in_any_case(text: str, level: int) -> None:
    assert loaded("--log-level", text).settings.level == level


def test_gates_without_effect_say_so() -> None:
    found = loaded("--feature-gates=TxnModeWriteWithSharedBuffer=false,FastLeaseKeepAlive=true")
    warned = [dict(line.fields)["gate"] for line in found.lines if "no effect in this version" in line.message]
    assert warned == ["TxnModeWriteWithSharedBuffer"]


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("--max-snapshots=5", "--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8."),
        (
            "--v2-deprecation=gone",
            "--v2-deprecation is deprecated and scheduled for removal in v3.8. "
            "The default value is enforced, ignoring user input.",
        ),
    ],
)
def test_deprecated_flags_are_named_in_etcds_words(flag: str, text: str) -> None:
    assert text in messages(loaded(flag).lines)
    assert text not in messages(loaded().lines)


def test_the_v2_store_cannot_come_back() -> None:
    refused = refusal("--v2-deprecation=not-yet")
    assert 'invalid value "not-yet" for flag -v2-deprecation: invalid value "not-yet"' in refused.out + str(refused)


def test_flags_without_effect_say_so() -> None:
    found = loaded("--memory-mlock", "--experimental-corrupt-check-time=5m")
    silent = [dict(line.fields)["flag"] for line in found.lines if "no effect in this version" in line.message]
    assert silent == ["memory-mlock"]


def test_stages_set_gates_that_are_not_named() -> None:
    gates = config("--feature-gates", "AllAlpha=true,PriorityRequest=false").feature_gates
    assert gates["CompactHashCheck"]
    assert not gates["PriorityRequest"]
    assert gates["FastLeaseKeepAlive"]


# What etcd 3.5.1 cannot judge because it is newer: the texts of 3.7.
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (
            ["--discovery-endpoints", "http://a:1", "--discovery-token", "t", "--initial-cluster", "a=http://a:1"],
            "multiple discovery or bootstrap flags are set. "
            'Choose one of "initial-cluster", "discovery-endpoints" or "discovery-srv"',
        ),
        (["--discovery-token", "t"], "both --discovery-token and --discovery-endpoints must be set"),
        (
            ["--discovery-token", "t", "--discovery-endpoints", "http://a:1,, "],
            "--discovery-endpoints must not contain empty endpoints",
        ),
        (
            ["--discovery-fallback", "proxy"],
            'v2 proxy is deprecated, and --discovery-fallback can\'t be configured as "proxy"',
        ),
        (["--compact-hash-check-time", "0s"], "--compact-hash-check-time must be >0 (set to 0s)"),
        (["--tls-min-version", "TLS1.1"], 'unexpected TLS version "TLS1.1" (must be one of: TLS1.2, TLS1.3)'),
        (
            ["--tls-min-version", "TLS1.3", "--tls-max-version", "TLS1.2"],
            "min version (TLS1.3) is greater than max version (TLS1.2)",
        ),
        (
            ["--tls-min-version", "TLS1.3", "--cipher-suites", "TLS_RSA_WITH_AES_128_CBC_SHA"],
            "cipher suites cannot be configured when only TLS1.3 is enabled",
        ),
        (["--log-format", "xml"], "unknown log format: xml, supported values json, console"),
        (
            ["--feature-gates", "LeaseCheckpointPersist=true"],
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint",
        ),
        (
            ["--enable-distributed-tracing", "--distributed-tracing-sampling-rate=-1"],
            "distributed tracing configurition is not valid: (tracing sampling rate must be positive)",
        ),
        (
            ["--listen-client-http-urls", "http://localhost:2379"],
            "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url http://localhost:2379",
        ),
        (
            ["--advertise-client-urls", "http://:1"],
            '--advertise-client-urls "http://:1" must be in the format "host:port", "unix:/path/to/socket" '
            'or "unixs:/path/to/socket" (unexpected empty host (http://:1))',
        ),
    ],
)
def test_conflicting_settings_are_refused_with_etcds_text(arguments: list[str], error: str) -> None:
    refused = refusal(*arguments)
    assert (refused.code, refused.lines[-1].message, refused.lines[-1].fields) == (
        1,
        "failed to verify flags",
        {"error": error},
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ["--feature-gates", "Bogus=true"],
            'invalid value "Bogus=true" for flag -feature-gates: unrecognized feature gate: Bogus',
        ),
        (["--feature-gates", "AllBeta"], 'invalid value "AllBeta" for flag -feature-gates: missing bool value for AllBeta'),
        (
            ["--max-concurrent-streams", "99999999999"],
            'invalid value "99999999999" for flag -max-concurrent-streams: '
            'strconv.ParseUint: parsing "99999999999": value out of range',
        ),
        (["--v2-deprecation", "x"], 'invalid value "x" for flag -v2-deprecation: invalid value "x"'),
    ],
)
def test_values_that_do_not_parse_have_etcds_text(arguments: list[str], text: str) -> None:
    refused = refusal(*arguments)
    assert (refused.code, refused.error_text.splitlines()[0]) == (2, text)


def test_urls_are_sorted_and_deduplicated() -> None:
    found = config("--listen-peer-urls", "http://127.0.0.1:2, http://127.0.0.1:1,http://127.0.0.1:2").listen_peer_urls
    assert [url.text for url in found] == ["http://127.0.0.1:1", "http://127.0.0.1:2"]
    assert (found[0].host, found[0].port) == ("127.0.0.1", 1)


_WORDS = [*("--" + name for name in [*FLAGS, *RETIRED]), "0", "-1", "x", "=", "true", "http://a:1", ","]


@given(st.lists(st.sampled_from(_WORDS), max_size=6))
def test_any_command_line_loads_or_raises_startup_error(arguments: list[str]) -> None:
    with contextlib.suppress(StartupError):
        loaded(*arguments)
