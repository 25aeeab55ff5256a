"""cfssl's files: every error names file, line and key."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.errors import ConfigError
from tercet.pki import Profile, Request
from tercet.pki.cfssl_config import read_config
from tercet.pki.cfssl_request import CARequest, RequestFile, read_request
from tercet.pki.json_file import Value, parse

REQUEST = """{
  "CN": "etcd",
  "hosts": [
    "127.0.0.1",
    "172.27.129.105"
  ],
  "key": {
    "algo": "rsa",
    "size": 2048
  },
  "names": [
    {
      "C": "CN",
      "O": "k8s"
    }
  ]
}
"""
CONFIG = """{
\t"signing": {
\t\t"default": {"expiry": "87600h"},
\t\t"profiles": {
\t\t\t"kubernetes": {
\t\t\t\t"usages": ["signing", "server auth"],
\t\t\t\t"expiry": "1h30m0.5s"
\t\t\t}
\t\t}
\t}
}"""


def test_a_request() -> None:
    read = read_request(REQUEST.encode(), "etcd-csr.json")
    expected = Request("etcd", ("127.0.0.1", "172.27.129.105"), ({"C": "CN", "O": "k8s"},), "rsa", 2048)
    assert read == RequestFile(expected, None)


def test_a_request_for_a_ca() -> None:
    read = read_request(b'\xef\xbb\xbf{"CN": "ca", "ca": {"expiry": "24h", "pathlen": 3, "backdate": "1m"}}', "ca-csr.json")
    assert read.authority == CARequest(timedelta(days=1), 3, timedelta(minutes=1))
    assert read_request(b'{"CN": "ca", "ca": {}}', "ca-csr.json").authority == CARequest()


def test_sizes_and_serial_numbers() -> None:
    """cfssl rejects the first, which has no size, and drops the serial number of the last."""
    assert read_request(b'{"CN": "x", "key": {"algo": "rsa"}}', "x").request.key_size == 2048
    assert read_request(b'{"CN": "x", "key": {"algo": "ed25519"}}', "x").request.key_algorithm == "ed25519"
    assert read_request(b'{"names": [{"SerialNumber": "7"}]}', "x").request.subject().rfc4514_string() == "2.5.4.5=7"


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ('"CN": "etcd",', '"CN": "etcd"', "csr.json:3: invalid JSON: Expecting ',' delimiter (column 3)"),
        ('"CN": "etcd"', '"CN": ["etcd"]', "csr.json:2: CN: must be a string"),
        ('"CN": "etcd"', '"cn": "x", "CN": "etcd"', "csr.json:2: CN: duplicate key: cn and CN"),
        ('"key"', '"CN"', "csr.json:7: CN: duplicate key, first in line 2"),
        (
            '"127.0.0.1"',
            '"127.0.0.1:2379"',
            "csr.json:4: hosts[0]: not a valid host: '127.0.0.1:2379'; write it without the port",
        ),
        ('"172.27.129.105"', "172", "csr.json:5: hosts[1]: must be a string"),
        ('"algo": "rsa"', '"algo": "rsaa"', "csr.json:8: key.algo: unknown key algorithm: 'rsaa'"),
        ("2048", "1024", "csr.json:9: key.size: unsupported rsa key size: 1024; supported: 2048 to 8192 bits"),
        ("2048", "2048.5", "csr.json:9: key.size: must be an integer"),
        ("2048", "true", "csr.json:9: key.size: must be an integer"),
        ('"C": "CN"', '"C": "China"', "csr.json:12: names[0]: subject field C: 'China': must be a country code"),
        ('"CN": "etcd"', '"CN": "' + "x" * 65 + '"', f"csr.json:1: subject field CN: '{'x' * 65}': must be text of at most 64"),
        ('"key"', '"extensions": [1], "key"', "csr.json:7: extensions: custom extensions are not supported"),
        ('"key"', '"ca": {"pathlen": -1}, "key"', "csr.json:7: ca: pathlen cannot be negative"),
        (
            '"key"',
            '"ca": {"expiry": "10y"}, "key"',
            "csr.json:7: ca.expiry: must be a duration such as 8760h or 1h30m, not '10y'; ",
        ),
        ('"key"', '"ca": {"pathlenzero": 1}, "key"', "csr.json:7: ca.pathlenzero: must be true or false"),
        ('"key"', '"ca": 1, "key"', "csr.json:7: ca: must be an object"),
        (REQUEST, "[]", "csr.json:1: must be an object"),
        (REQUEST, "{}", "csr.json:1: has no subject: set CN, names or hosts"),
        (REQUEST, "", "csr.json:1: invalid JSON: Expecting value (column 1)"),
        (REQUEST, "[" * 100_000, "csr.json: nested too deeply"),
        (REQUEST, '{"CN":' * 40 + "1" + "}" * 40, "nested too deeply"),
        (REQUEST, " " * 2_000_000, "csr.json: too large (2000000 bytes)"),
    ],
)
def test_errors_in_a_request_name_line_and_key(old: str, new: str, text: str) -> None:
    assert old in REQUEST
    with pytest.raises(ConfigError) as raised:
        read_request(REQUEST.replace(old, new, 1).encode(), "csr.json")
    assert text in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("old", "new", "warning"),
    [
        ('"CN"', '"CNN"', "csr.json:2: CNN: unknown key, ignored; did you mean 'CN'?"),
        ('"size"', '"sise"', "csr.json:9: key.sise: unknown key, ignored; did you mean 'size'?"),
        (
            '"O": "k8s"',
            '"E": "a@b"',
            "csr.json:14: names[0].E: unknown key, ignored; known keys: C, ST, L, O, OU, SerialNumber",
        ),
        ('"127.0.0.1"', '""', "csr.json:4: hosts[0]: empty host, ignored"),
    ],
)
def test_ignored_keys_and_hosts_are_warnings(old: str, new: str, warning: str) -> None:
    """cfssl accepts them: unknown keys silently, an empty host as an empty DNS name in the certificate."""
    parsed = read_request(REQUEST.replace(old, new, 1).encode(), "csr.json")
    assert parsed.warnings == (warning,)
    assert "" not in parsed.request.hosts


def test_a_request_with_an_empty_host_only() -> None:
    """As in templates for client certificates."""
    parsed = read_request(b'{"CN": "client", "hosts": [""]}', "csr.json")
    assert (parsed.request.hosts, len(parsed.warnings)) == ((), 1)


def test_a_request_must_be_utf_8() -> None:
    with pytest.raises(ConfigError, match=r"^csr\.json: not UTF-8 text$"):
        read_request(b'{"CN": "\xff"}', "csr.json")


def test_a_configuration() -> None:
    config = read_config(CONFIG.encode(), "ca-config.json")
    expiry = timedelta(hours=1, minutes=30, seconds=0.5)
    assert config.profile("kubernetes") == Profile(usages=("signing", "server auth"), expiry=expiry)
    assert read_config(b'{"signing": {}}', "x").profile("") == Profile()


def test_a_profile_inherits_urls_from_the_default() -> None:
    urls = '"issuer_urls": ["http://a"], "ocsp_url": "http://b", "crl_url": "http://c", "backdate": "1h"'
    text = '{"signing": {"default": {"expiry": "1h", URLS}, "profiles": {"p": {"usages": ["any"], "expiry": "2h", "crl_url": "http://d"}}}}'
    profile = read_config(text.replace("URLS", urls).encode(), "x").profile("p")
    assert (profile.issuer_urls, profile.ocsp_url, profile.crl_url) == (("http://a",), "http://b", "http://d")
    assert profile.backdate == timedelta(minutes=5)


def test_both_forms_of_the_ca_constraint_are_read() -> None:
    template = '{"signing": {"profiles": {"p": {"usages": ["cert sign"], "expiry": "1h", HOW}}}}'
    for how, is_ca, length in (
        ('"is_ca": true', True, None),
        ('"ca_constraint": {"is_ca": true, "max_path_len": 2}', True, 2),
        ('"ca_constraint": {"is_ca": true, "max_path_len_zero": true}', True, 0),
        ('"ca_constraint": {"max_path_len": 2}', False, None),
        ('"not_after": "2030-01-01T01:00:00+01:00"', False, None),
    ):
        profile = read_config(template.replace("HOW", how).encode(), "x").profile("p")
        assert (profile.is_ca, profile.path_length) == (is_ca, length)
    assert profile.not_after == datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ('"signing": {', '"singing": {', "config.json:2: singing: unknown key; did you mean 'signing'?"),
        ('"profiles"', '"profile"', "config.json:4: signing.profile: unknown key; did you mean 'profiles'?"),
        (
            '"server auth"',
            '"serverauth"',
            "config.json:6: signing.profiles.kubernetes.usages[1]: unknown usage: 'serverauth'; did you",
        ),
        ('"server auth"', '"zzz"', "unknown usage: 'zzz'; known usages: signing, digital signature, "),
        (
            '"1h30m0.5s"',
            '"365d"',
            "config.json:7: signing.profiles.kubernetes.expiry: must be a duration such as 8760h or 1h30m, not",
        ),
        ('"1h30m0.5s"', '"1h 30m"', "must be a duration"),
        ('"1h30m0.5s"', '""', "config.json:5: signing.profiles.kubernetes: missing key 'expiry'"),
        ('"1h30m0.5s"', '"' + "9" * 400 + 'h"', "config.json:7: signing.profiles.kubernetes.expiry: duration out of range"),
        ('"87600h"', '"87600"', "config.json:3: signing.default.expiry: must be a duration"),
        ('"signing", "server auth"', "", "config.json:5: signing.profiles.kubernetes: missing key 'usages'"),
        ('["signing", "server auth"]', '"signing"', "config.json:6: signing.profiles.kubernetes.usages: must be a list"),
        (
            '"expiry": "1h',
            '"auth_key": "k", "expiry": "1h',
            "config.json:7: signing.profiles.kubernetes.auth_key: is a setting of cfssl's server",
        ),
        (
            '"expiry": "1h',
            '"copy_extensions": true, "expiry": "1h',
            "signing.profiles.kubernetes.copy_extensions: is not supported",
        ),
        ('"expiry": "1h', '"name_whitelist": "(", "expiry": "1h', "name_whitelist: not a regular expression: "),
        ('"expiry": "1h', '"not_before": "2026-01-01", "expiry": "1h', "not_before: must be a timestamp with time zone"),
        (
            '"expiry": "1h',
            '"not_before": "soon", "expiry": "1h',
            "not_before: must be a timestamp such as 2026-01-31T00:00:00Z",
        ),
        (
            '"expiry": "1h',
            '"ca_constraint": {"max_path_len": -1}, "expiry": "1h',
            "ca_constraint: max_path_len cannot be negative",
        ),
        (CONFIG, '{"signing": {}, "remotes": {"a": "b"}}', "config.json:1: remotes: is a setting of cfssl's server"),
        (CONFIG, "{}", "config.json:1: missing key 'signing'"),
    ],
)
def test_errors_in_a_configuration_name_line_and_key(old: str, new: str, text: str) -> None:
    assert old in CONFIG
    with pytest.raises(ConfigError) as raised:
        read_config(CONFIG.replace(old, new, 1).encode(), "config.json")
    assert text in str(raised.value)


def test_empty_unsupported_keys_are_accepted() -> None:
    text = CONFIG.replace('"expiry": "1h', '"auth_key": "", "ct_log_servers": [], "copy_extensions": false, "expiry": "1h')
    assert read_config(text.encode(), "config.json").profiles == read_config(CONFIG.encode(), "config.json").profiles


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("kubernets", "config.json: unknown profile 'kubernets'; did you mean 'kubernetes'?"),
        ("www", "config.json: unknown profile 'www'; profiles: kubernetes"),
        ("", "config.json: signing.default has no usages; select a profile with --profile (profiles: kubernetes)"),
    ],
)
def test_unknown_profiles_are_rejected(name: str, text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_config(CONFIG.encode(), "config.json").profile(name)
    assert str(raised.value) == text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def plain(value: Value) -> object:
    if isinstance(value.content, dict):
        return {key: plain(inner) for key, inner in value.content.items()}
    if isinstance(value.content, list):
        return [plain(inner) for inner in value.content]
    return value.content


@given(JSON, st.sampled_from([None, 1, "\t"]))
def test_the_parser_agrees_with_the_standard_library(value: object, indent: int | str | None) -> None:
    assert plain(parse(json.dumps(value, indent=indent).encode(), "x")) == value


@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:0 \n', max_size=30).map(str.encode))
def test_invalid_content_is_a_config_error(content: bytes) -> None:
    for read in (read_request, read_config):
        with pytest.raises(ConfigError):
            read(content, "x")
