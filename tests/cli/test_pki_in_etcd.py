"""etcd and etcdctl accept certificates of tercet pki, alone and mixed with cfssl's."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tercet.cli import tercet
from tercet.pki import explain
from tests.cli.etcd_pair import clean_environment
from tests.pki.programs import cfssl_gencert, needs_cfssl, write_json
from tests.support.etcd import binary, running_etcd
from tests.support.waiting import scaled

HOSTS = ["127.0.0.1"]


def etcdctl(
    directory: Path, endpoint: str, certificate: str, ca: str = "ca", timeout: str = "5s"
) -> subprocess.CompletedProcess[str]:
    """`etcdctl endpoint health` with the files in `directory`."""
    files = [f"--cacert={ca}.pem", f"--cert={certificate}.pem", f"--key={certificate}-key.pem"]
    line = [
        binary("etcdctl"),
        f"--endpoints=https://{endpoint}",
        *files,
        f"--dial-timeout={timeout}",
        f"--command-timeout={timeout}",
        "endpoint",
        "health",
    ]
    return subprocess.run(
        line, cwd=directory, env=clean_environment({}), capture_output=True, text=True, timeout=scaled(20), check=False
    )


def server_flags(directory: Path, certificate: str) -> list[str]:
    files = {"cert-file": f"{certificate}.pem", "key-file": f"{certificate}-key.pem", "trusted-ca-file": "ca.pem"}
    return ["--client-cert-auth", *(f"--{flag}={directory / name}" for flag, name in files.items())]


def make(directory: Path, name: str, request: object, *words: str) -> None:
    """Issue a certificate with `tercet pki`."""
    write_json(directory / f"{name}-csr.json", request)
    assert tercet.main(["pki", "gencert", *words, f"{name}-csr.json"]) == 0


SIGN = ["-ca=ca.pem", "-ca-key=ca-key.pem"]


@pytest.mark.parametrize("algorithm", ["rsa", "ecdsa", "ed25519"])
def test_every_key_algorithm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, algorithm: str) -> None:
    monkeypatch.chdir(tmp_path)
    key = {"algo": algorithm}
    make(tmp_path, "ca", {"CN": "ca", "key": key}, "-initca")
    make(tmp_path, "server", {"CN": "etcd", "hosts": HOSTS, "key": key}, *SIGN)
    make(tmp_path, "client", {"CN": "root", "key": key}, *SIGN)
    make(tmp_path, "other", {"CN": "other"}, "-initca")
    with running_etcd(tmp_path / "member", *server_flags(tmp_path, "server"), scheme="https") as etcd:
        assert "is healthy: successfully committed proposal: took = " in etcdctl(tmp_path, etcd.endpoint, "client").stdout
        assert etcdctl(tmp_path, etcd.endpoint, "client", ca="other", timeout="500ms").returncode == 1
    read = [(tmp_path / f"{name}.pem").read_bytes() for name in ("server", "other")]
    assert explain(read[0], ca_pem=read[1], host="127.0.0.1") == ["it is signed by CN=ca, and the trusted CA is CN=other"]


@needs_cfssl
@pytest.mark.parametrize("ours", ["server", "client"])
def test_certificates_of_cfssl_and_ours_interoperate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ours: str) -> None:
    """cfssl issues the CA and one side's certificate, tercet pki the other side's."""
    monkeypatch.chdir(tmp_path)
    cfssl_gencert(tmp_path, "ca", "-initca", write_json(tmp_path / "ca-csr.json", {"CN": "ca"}))
    for name, request in (("server", {"CN": "etcd", "hosts": HOSTS}), ("client", {"CN": "root", "hosts": ["client"]})):
        if name == ours:
            make(tmp_path, name, request, *SIGN)
        else:
            cfssl_gencert(tmp_path, name, *SIGN, write_json(tmp_path / f"{name}-csr.json", request))
    with running_etcd(tmp_path / "member", *server_flags(tmp_path, "server"), scheme="https") as etcd:
        assert etcdctl(tmp_path, etcd.endpoint, "client").returncode == 0
