"""tercet pki and cfssl make equal certificates from the same files, and each accepts the other's CA and requests.

The reference is Debian's cfssl 1.2.0, which lacks ed25519 and treats URIs as DNS names; these are not compared. Known
differences: subject strings are UTF8String where Go writes PrintableString (values are compared); duplicate hosts appear once;
the CSR of a CA always has the CA flag, cfssl's only if the file has a section `ca`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tercet.cli.pki.command import command
from tercet.pki import explain
from tests.pki.programs import cfssl, cfssl_gencert, needs_cfssl, needs_openssl, openssl_verify, write_json

pytestmark = needs_cfssl

TUTORIAL = {
    "CN": "etcd",
    "hosts": ["127.0.0.1", "172.27.129.105", "172.27.129.111", "172.27.129.112"],
    "key": {"algo": "rsa", "size": 2048},
    "names": [{"C": "CN", "ST": "BeiJing", "L": "BeiJing", "O": "k8s", "OU": "4Paradigm"}],
}
USAGES = ["signing", "key encipherment", "server auth", "client auth"]
ROLES = ["any", "code signing", "s/mime", "ipsec end system", "ipsec tunnel", "ipsec user", "timestamping", "ocsp signing"]
ROLES += ["microsoft sgc", "netscape sgc", "server auth"]
REQUESTS: dict[str, Any] = {
    "tutorial": TUTORIAL,
    "no key": {
        "CN": "etcd",
        "hosts": ["node1", "*.example.com", "10.0.0.1", "fd00::1", "::ffff:10.0.0.2", "admin@example.com"],
    },
    "ecdsa 384": {"CN": "x", "hosts": ["b", "a"], "key": {"algo": "ecdsa", "size": 384}},
    "ecdsa 521": {"CN": "x", "hosts": ["a"], "key": {"algo": "ecdsa", "size": 521}},
    "no CN": {"hosts": ["node1"], "names": [{"O": "k8s"}]},
    "no subject": {"hosts": ["node1"]},
    "no hosts": {"CN": "client"},
    "names twice": {"CN": "x", "hosts": ["a"], "names": [{"O": "one", "OU": "unit"}, {"O": "two", "C": "DE"}]},
    "serial number": {"CN": "x", "hosts": ["a"], "serialnumber": "4711"},
    "lower case": {"cn": "x", "HOSTS": ["a"], "Key": {"Algo": "ecdsa", "SIZE": 256}, "names": None},
}
PROFILES: dict[str, Any] = {
    "kubernetes": {"usages": USAGES, "expiry": "87600h"},
    "roles only": {"usages": ["server auth"], "expiry": "1h30m"},
    "key usage only": {"usages": ["digital signature", "content committment", "data encipherment"], "expiry": "24h"},
    "all roles": {
        "usages": ROLES,
        "expiry": "24h",
    },
    "agreement": {"usages": ["key agreement", "encipher only"], "expiry": "24h"},
    "backdate": {"usages": USAGES, "expiry": "24h", "backdate": "12h"},
    "dates": {
        "usages": USAGES,
        "expiry": "1h",
        "not_before": "2026-01-01T00:00:00Z",
        "not_after": "2029-12-31T23:00:00+01:00",
    },
    "urls": {
        "usages": USAGES,
        "expiry": "24h",
        "issuer_urls": ["http://ca.example/ca.pem", "http://ca.example/second"],
        "ocsp_url": "http://ca.example/ocsp",
        "crl_url": "http://ca.example/crl",
        "ocsp_no_check": True,
    },
    "authority": {"usages": ["cert sign", "crl sign"], "expiry": "24h", "ca_constraint": {"is_ca": True, "max_path_len": 1}},
    "last authority": {
        "usages": ["cert sign"],
        "expiry": "24h",
        "ca_constraint": {"is_ca": True, "max_path_len": 0, "max_path_len_zero": True},
    },
    "any authority": {"usages": ["cert sign"], "expiry": "24h", "ca_constraint": {"is_ca": True}},
    "no authority": {"usages": USAGES, "expiry": "24h", "ca_constraint": {"is_ca": False, "max_path_len": 3}},
    "names": {"usages": USAGES, "expiry": "24h", "name_whitelist": r"^(etcd|node\d+)$"},
}
BASIC_CONSTRAINTS = "2.5.29.19"
AUTHORITIES: dict[str, Any] = {
    "plain": {"CN": "ca"},
    "tutorial": {
        "CN": "kubernetes",
        "key": {"algo": "rsa", "size": 2048},
        "names": [{"C": "CN", "ST": "BeiJing", "L": "BeiJing", "O": "k8s", "OU": "4Paradigm"}],
        "ca": {"expiry": "876000h"},
    },
    "last": {"CN": "ca", "ca": {"pathlen": 0, "pathlenzero": True}, "key": {"algo": "ecdsa", "size": 384}},
    "limited": {"CN": "ca", "ca": {"pathlen": 2, "pathlenzero": True, "expiry": "100h"}},
    "with hosts": {"names": [{"O": "only"}], "hosts": ["10.0.0.1", "ca.example"], "key": {"algo": "ecdsa", "size": 521}},
}


def ours(directory: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> Result:
    """`tercet pki gencert WORDS` in `directory`."""
    monkeypatch.chdir(directory)
    return CliRunner().invoke(command, ["gencert", *words])


def facts(directory: Path, bare: str) -> Mapping[str, object]:
    """Everything that must be equal: all but keys, serial numbers and the second of creation."""
    certificate = x509.load_pem_x509_certificate((directory / f"{bare}.pem").read_bytes())
    request = x509.load_pem_x509_csr((directory / f"{bare}.csr").read_bytes())
    key_pem = (directory / f"{bare}-key.pem").read_bytes()
    key = load_pem_private_key(key_pem, password=None)
    assert key.public_key() == certificate.public_key() == request.public_key()
    assert request.is_signature_valid
    return {
        "subject": subject(certificate.subject),
        "issuer": subject(certificate.issuer),
        "lifetime": certificate.not_valid_after_utc - certificate.not_valid_before_utc,
        "seconds": certificate.not_valid_before_utc.second,
        "version": certificate.version,
        "signed with": certificate.signature_algorithm_oid,
        "extensions": extensions(certificate),
        "key": key_pem.splitlines()[0],
        "key size": getattr(certificate.public_key(), "key_size"),  # noqa: B009  not every key type has it
        "request": subject(request.subject),
        "request signed with": request.signature_algorithm_oid,
        "request extensions": [found for found in extensions(request) if found[0] != BASIC_CONSTRAINTS],
        "mode": (directory / f"{bare}-key.pem").stat().st_mode,
    }


def subject(name: x509.Name) -> list[object]:
    return [{(attribute.oid, attribute.value) for attribute in relative} for relative in name.rdns]


def extensions(holder: x509.Certificate | x509.CertificateSigningRequest) -> list[tuple[str, bool, object]]:
    """OID, criticality and bytes, in order; for key identifiers, whether they identify this key."""
    found: list[tuple[str, bool, object]] = []
    for extension in holder.extensions:
        value: object = extension.value.public_bytes()
        if isinstance(extension.value, x509.SubjectKeyIdentifier):
            value = extension.value == x509.SubjectKeyIdentifier.from_public_key(holder.public_key())  # type: ignore[arg-type]
        found.append((extension.oid.dotted_string, extension.critical, value))
    return found


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a CA by cfssl and a configuration with all PROFILES."""
    directory = tmp_path_factory.mktemp("cfssl")
    cfssl_gencert(directory, "ca", "-initca", write_json(directory / "ca-csr.json", AUTHORITIES["tutorial"]))
    default = {"expiry": "87600h", "crl_url": "http://ca.example/default-crl"}
    write_json(directory / "ca-config.json", {"signing": {"default": default, "profiles": PROFILES}})
    return directory


def both(authority: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: object, *words: str) -> None:
    """Run both programs with the same arguments: `theirs` and `ours` in `tmp_path`."""
    csr = write_json(tmp_path / "etcd-csr.json", request)
    line = [f"-ca={authority}/ca.pem", f"-ca-key={authority}/ca-key.pem", f"-config={authority}/ca-config.json", *words, csr]
    cfssl_gencert(tmp_path, "theirs", *line)
    result = ours(tmp_path, monkeypatch, *line, "-bare", "ours")
    assert result.exit_code == 0, result.output
    assert facts(tmp_path, "ours") == facts(tmp_path, "theirs")


def assert_made_at_once(directory: Path) -> None:
    made = [x509.load_pem_x509_certificate((directory / f"{bare}.pem").read_bytes()) for bare in ("ours", "theirs")]
    assert abs(made[0].not_valid_before_utc - made[1].not_valid_before_utc) <= timedelta(minutes=2)


@pytest.mark.parametrize("name", REQUESTS)
def test_requests(authority: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    both(authority, tmp_path, monkeypatch, REQUESTS[name], "-profile=kubernetes")
    assert_made_at_once(tmp_path)


@pytest.mark.parametrize("name", PROFILES)
def test_profiles(authority: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    hosts = ["node1", "10.0.0.1"]
    both(authority, tmp_path, monkeypatch, {"CN": "etcd", "hosts": hosts}, "-profile", name)
    assert_made_at_once(tmp_path)


def test_hostname_replaces_hosts(authority: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    csr = write_json(tmp_path / "etcd-csr.json", {"CN": "x", "hosts": ["a"]})
    line = [f"-ca={authority}/ca.pem", f"-ca-key={authority}/ca-key.pem", "-hostname=b,10.0.0.9,::1", csr]
    cfssl_gencert(tmp_path, "theirs", *line)
    assert ours(tmp_path, monkeypatch, *line, "-bare", "ours").exit_code == 0
    made, theirs = facts(tmp_path, "ours"), facts(tmp_path, "theirs")
    # cfssl keeps the old hosts in the CSR; ours has the issued ones.
    assert {**made, "request extensions": None} == {**theirs, "request extensions": None}


@pytest.mark.parametrize("name", AUTHORITIES)
def test_cas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    csr = write_json(tmp_path / "ca-csr.json", AUTHORITIES[name])
    cfssl_gencert(tmp_path, "theirs", "-initca", csr)
    result = ours(tmp_path, monkeypatch, "-initca", csr, "-bare", "ours")
    assert result.exit_code == 0, result.output
    assert facts(tmp_path, "ours") == facts(tmp_path, "theirs")
    assert_made_at_once(tmp_path)


def test_a_ca_keeps_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    csr = write_json(tmp_path / "ca-csr.json", AUTHORITIES["plain"])
    cfssl_gencert(tmp_path, "ca", "-initca", csr)
    before = (tmp_path / "ca-key.pem").read_bytes()
    again = cfssl(tmp_path, "gencert", "-initca", "-ca-key", "ca-key.pem", csr)
    theirs = x509.load_pem_x509_certificate(json.loads(again.stdout)["cert"].encode())
    assert ours(tmp_path, monkeypatch, "-initca", "-ca-key", "ca-key.pem", csr).exit_code == 0
    made = x509.load_pem_x509_certificate((tmp_path / "ca.pem").read_bytes())
    assert (tmp_path / "ca-key.pem").read_bytes() == before
    assert made.public_key() == theirs.public_key()
    assert extensions(made) == extensions(theirs)


@needs_openssl
@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_each_signs_with_the_others_ca(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    csr = write_json(tmp_path / "etcd-csr.json", {**TUTORIAL, "key": {"algo": "ecdsa", "size": 256}})
    request = write_json(
        tmp_path / "ca-csr.json", {"CN": f"ca {kind}", "key": {"algo": kind, "size": 2048 if kind == "rsa" else 256}}
    )
    cfssl_gencert(tmp_path, "their-ca", "-initca", request)
    assert ours(tmp_path, monkeypatch, "-initca", request, "-bare", "our-ca").exit_code == 0
    assert ours(tmp_path, monkeypatch, "-ca=their-ca.pem", "-ca-key=their-ca-key.pem", csr, "-bare", "ours").exit_code == 0
    cfssl_gencert(tmp_path, "theirs", "-ca=our-ca.pem", "-ca-key=our-ca-key.pem", csr)
    for bare, ca in (("ours", "their-ca"), ("theirs", "our-ca")):
        pem, ca_pem = (tmp_path / f"{bare}.pem").read_bytes(), (tmp_path / f"{ca}.pem").read_bytes()
        key = (tmp_path / f"{bare}-key.pem").read_bytes()
        assert not explain(pem, ca_pem=ca_pem, host="172.27.129.111", usage="server", key_pem=key)
        for purpose in ("sslserver", "sslclient"):
            words = [
                "-CAfile",
                str(tmp_path / f"{ca}.pem"),
                "-purpose",
                purpose,
                "-x509_strict",
                "-verify_ip",
                "172.27.129.111",
            ]
            assert openssl_verify(tmp_path / f"{bare}.pem", *words)
        read = json.loads(cfssl(tmp_path, "certinfo", "-cert", f"{bare}.pem").stdout)
        assert read["subject"]["common_name"] == "etcd"
        assert read["sans"] == TUTORIAL["hosts"]
    assert json.loads(cfssl(tmp_path, "certinfo", "-csr", "ours.csr").stdout)["Subject"]["Names"]


def test_cfssl_signs_our_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    csr = write_json(tmp_path / "etcd-csr.json", {"CN": "etcd", "hosts": ["node1"]})
    assert ours(tmp_path, monkeypatch, "-initca", write_json(tmp_path / "ca-csr.json", {"CN": "ca"})).exit_code == 0
    assert ours(tmp_path, monkeypatch, "-ca=ca.pem", "-ca-key=ca-key.pem", csr).exit_code == 0
    signed = json.loads(cfssl(tmp_path, "sign", "-ca=ca.pem", "-ca-key=ca-key.pem", "etcd.csr").stdout)["cert"]
    key = (tmp_path / "etcd-key.pem").read_bytes()
    assert not explain(signed.encode(), ca_pem=(tmp_path / "ca.pem").read_bytes(), host="node1", usage="server", key_pem=key)


@pytest.mark.parametrize(
    ("request_file", "profile"),
    [
        ({"CN": "x", "key": {"algo": "rsa", "size": 1024}}, "kubernetes"),
        ({"CN": "x", "key": {"algo": "rsa", "size": 16384}}, "kubernetes"),
        ({"CN": "x", "key": {"algo": "ecdsa", "size": 2048}}, "kubernetes"),
        ({"CN": "x", "key": {"algo": "dsa", "size": 2048}}, "kubernetes"),
        ({"CN": "x", "ca": {"expiry": "1h"}}, "kubernetes"),
        ({"CN": "x", "hosts": "node1"}, "kubernetes"),
        ({"CN": 1}, "kubernetes"),
        ({"CN": "x"}, "names"),
        ({"CN": "etcd", "hosts": ["other"]}, "names"),
        ({"CN": "x"}, ""),
    ],
)
def test_both_reject_the_request(
    authority: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request_file: object, profile: str
) -> None:
    csr = write_json(tmp_path / "etcd-csr.json", request_file)
    line = [f"-ca={authority}/ca.pem", f"-ca-key={authority}/ca-key.pem", f"-config={authority}/ca-config.json"]
    line += [f"-profile={profile}", csr]
    theirs, made = cfssl(tmp_path, "gencert", *line), ours(tmp_path, monkeypatch, *line)
    assert not theirs.stdout
    assert made.exit_code == 1
    assert made.output.startswith("Error: ")
    assert made.output.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["etcd-csr.json"]


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"signing": {"default": {"expiry": "2d"}}},
        {"signing": {"default": {"usages": USAGES}}},
        {"signing": {"profiles": {"p": {"usages": USAGES}}}},
        {"signing": {"profiles": {"p": {"expiry": "1h"}}}},
        {"signing": {"profiles": {"p": {"expiry": "1h", "usages": ["nonsense"]}}}},
        {"signing": {"profiles": {"p": {"expiry": "1h", "usages": USAGES, "name_whitelist": "("}}}},
        {"signing": {"profiles": {"p": {"expiry": "1h", "usages": USAGES, "not_after": "tomorrow"}}}},
        {"signing": []},
    ],
)
def test_both_reject_the_configuration(
    authority: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: object
) -> None:
    csr = write_json(tmp_path / "etcd-csr.json", {"CN": "x", "hosts": ["a"]})
    line = [f"-ca={authority}/ca.pem", f"-ca-key={authority}/ca-key.pem"]
    line += ["-config", write_json(tmp_path / "config.json", config), "-profile=p", csr]
    theirs, made = cfssl(tmp_path, "gencert", *line), ours(tmp_path, monkeypatch, *line)
    assert not theirs.stdout
    assert made.exit_code == 1
    assert made.output.startswith("Error: config.json:1: ")


@pytest.mark.parametrize(
    ("config", "profile", "text"),
    [
        ({"expiry": "1h", "usages": USAGES}, "kuber", "profile 'kuber'; did you mean 'kubernetes'?"),
        ({"expiry": "1h", "usages": [*USAGES, "sever auth"]}, "", "unknown usage: 'sever auth'; did you mean 'server auth'?"),
        ({"expiry": "1h", "usages": USAGES, "expirey": "2h"}, "", "unknown key; did you mean 'expiry'?"),
    ],
)
def test_misspelt_names_that_cfssl_ignores_are_rejected(
    authority: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: object, profile: str, text: str
) -> None:
    csr = write_json(tmp_path / "etcd-csr.json", {"CN": "x", "hosts": ["a"]})
    line = [f"-ca={authority}/ca.pem", f"-ca-key={authority}/ca-key.pem", f"-profile={profile}"]
    signing = {"default": config, "profiles": {"kubernetes": {"expiry": "1h", "usages": USAGES}}}
    line += ["-config", write_json(tmp_path / "config.json", {"signing": signing}), csr]
    assert cfssl(tmp_path, "gencert", *line).stdout
    made = ours(tmp_path, monkeypatch, *line)
    assert made.exit_code == 1
    assert text in made.output
