"""`tercet pki`: cfssl's command lines, the files they write, and rejected input."""

from __future__ import annotations

import json
import os
import shlex
import ssl
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import create_server
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from tercet.cli import tercet
from tercet.cli.pki.input import _name
from tercet.pki import Profile, Request, explain, init_ca, issue, issue_as
from tercet.pki.certificate import read_certificate
from tercet.pki.keys import from_pem
from tests.pki.programs import needs_cfssl
from tests.support.waiting import scaled

CA_REQUEST = {
    "CN": "kubernetes",
    "key": {"algo": "rsa", "size": 2048},
    "names": [{"C": "CN", "ST": "BeiJing", "L": "BeiJing", "O": "k8s", "OU": "4Paradigm"}],
}
CONFIG = {
    "signing": {
        "default": {"expiry": "8760h"},
        "profiles": {
            "kubernetes": {"usages": ["signing", "key encipherment", "server auth", "client auth"], "expiry": "8760h"}
        },
    }
}
REQUEST = {**CA_REQUEST, "CN": "etcd", "hosts": ["127.0.0.1", "172.27.129.105", "172.27.129.111", "172.27.129.112"]}
SIGN = ["-ca=ca.pem", "-ca-key=ca-key.pem", "-config=ca-config.json", "-profile=kubernetes"]


class Here:
    """A working directory with cfssl's files, and the output of the last command."""

    def __init__(self, directory: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self._capture = capfd
        self.out = self.err = ""
        for name, content in (("ca-csr", CA_REQUEST), ("ca-config", CONFIG), ("etcd-csr", REQUEST)):
            self.write(name, content)

    def write(self, name: str, content: Any) -> None:
        (self.directory / f"{name}.json").write_text(json.dumps(content))

    def read(self, name: str) -> bytes:
        return (self.directory / name).read_bytes()

    def pki(self, *words: str) -> int:
        """Run `tercet pki WORDS`; the exit code."""
        code = tercet.main(["pki", *words])
        self.out, self.err = self._capture.readouterr()
        for secret in self.secrets():
            assert secret not in self.out + self.err
        return code

    def secrets(self) -> list[str]:
        """A line from the middle of every private key."""
        keys = [path.read_text() for path in self.directory.iterdir() if path.is_file() and "key" in path.name]
        return ["PRIVATE KEY", *(lines[len(lines) // 2] for key in keys if len(lines := key.splitlines()) > 2)]

    def modes(self) -> dict[str, int]:
        return {path.name: stat.S_IMODE(path.stat().st_mode) for path in self.directory.iterdir() if path.suffix != ".json"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Here:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CFSSL_CA_PK_PASSWORD", raising=False)
    return Here(tmp_path, capfd)


@pytest.fixture
def with_ca(here: Here) -> Here:
    """With a CA whose key is fast to generate."""
    ca = init_ca(Request("kubernetes"), timedelta(days=3650))
    for name, content in zip(("ca.pem", "ca-key.pem"), ca, strict=False):
        (here.directory / name).write_bytes(content)
    (here.directory / "ca-key.pem").chmod(0o600)
    here.write("etcd-csr", {**REQUEST, "key": {"algo": "ecdsa", "size": 256}})
    return here


def test_cfssls_command_lines(here: Here) -> None:
    before = os.umask(0)  # modes must not depend on it
    try:
        assert here.pki("gencert", "-initca", "ca-csr.json") == 0
        assert here.out.startswith("ca.pem      CN=kubernetes; expires ")
        assert here.pki("gencert", *SIGN, "etcd-csr.json") == 0
    finally:
        os.umask(before)
    assert here.out.splitlines()[1] == "etcd-key.pem  private key (rsa 2048), mode 0600"
    assert here.err == ""
    public, secret = 0o644, 0o600
    assert here.modes() == {
        "ca.pem": public,
        "ca.csr": public,
        "ca-key.pem": secret,
        "etcd.pem": public,
        "etcd.csr": public,
        "etcd-key.pem": secret,
    }
    good = explain(here.read("etcd.pem"), ca_pem=here.read("ca.pem"), host="172.27.129.112", key_pem=here.read("etcd-key.pem"))
    assert good == []


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["--ca", "ca.pem", "--ca-key", "ca-key.pem", "etcd-csr.json"], "etcd"),
        (["etcd-csr.json", *SIGN], "etcd"),
        ([*SIGN, "etcd-csr.json", "-bare", "server"], "server"),
        ([*SIGN, "-o", "sub/server", "etcd-csr.json"], "sub/server"),
        ([*SIGN, "request.json"], "request"),
        ([*SIGN, "sub/my.csr.json"], "my"),
        ([*SIGN, "-initca=false", "etcd-csr.json"], None),
    ],
)
def test_names_of_the_output_files(with_ca: Here, words: list[str], name: str | None) -> None:
    (with_ca.directory / "sub").mkdir()
    for copy in ("request.json", "sub/my.csr.json"):
        (with_ca.directory / copy).write_bytes(with_ca.read("etcd-csr.json"))
    code = with_ca.pki("gencert", *words)
    if name is None:
        assert code == 2
    else:
        assert code == 0
        assert [(with_ca.directory / f"{name}{end}").exists() for end in (".pem", "-key.pem", ".csr")] == [True] * 3


def test_a_request_from_stdin_and_cfssls_json(with_ca: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    with (with_ca.directory / "etcd-csr.json").open("r") as source:
        monkeypatch.setattr("sys.stdin", source)
        assert with_ca.pki("gencert", *SIGN, "-hostname", "a,10.1.1.1", "-w", "json", "-") == 0
    printed = json.loads(with_ca.out)
    assert printed == {"cert": with_ca.read("etcd.pem").decode(), "csr": with_ca.read("etcd.csr").decode()}
    assert explain(with_ca.read("etcd.pem"), ca_pem=with_ca.read("ca.pem"), host="127.0.0.1") == [
        "it is valid for a and 10.1.1.1, not for 127.0.0.1"
    ]


@needs_cfssl
def test_a_pipe_to_cfssljson_works_like_cfssls(with_ca: Here) -> None:
    """The tutorials' command line with another program's name; cfssljson chooses the names of the files."""
    line = [sys.executable, "-m", "tercet.cli.tercet", "pki", "gencert", *SIGN, "etcd-csr.json"]
    piped = f"{shlex.join(line)} | cfssljson -bare server"
    done = subprocess.run(["sh", "-c", piped], capture_output=True, text=True, timeout=scaled(60), check=True)
    assert "PRIVATE KEY" not in done.stdout + done.stderr
    assert explain(with_ca.read("server.pem"), ca_pem=with_ca.read("ca.pem"), key_pem=with_ca.read("server-key.pem")) == []
    assert with_ca.modes()["server-key.pem"] == 0o600
    assert not (with_ca.directory / "etcd-key.pem").exists()
    piped = f"{shlex.join([*line[:4], 'init-ca', 'ca-csr.json'])} | cfssljson -bare root"
    subprocess.run(["sh", "-c", piped], capture_output=True, text=True, timeout=scaled(60), check=True)
    assert with_ca.modes()["root-key.pem"] == 0o600


def test_a_pipe_to_another_program_has_no_key(with_ca: Here) -> None:
    line = [sys.executable, "-m", "tercet.cli.tercet", "pki", "gencert", *SIGN, "etcd-csr.json"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=scaled(60), check=True)
    assert "PRIVATE KEY" not in done.stdout + done.stderr
    assert with_ca.modes()["etcd-key.pem"] == 0o600


def test_a_ca_is_not_overwritten_by_accident(here: Here) -> None:
    here.write("ca-csr", {"CN": "first"})
    assert here.pki("initca", "ca-csr.json") == 0
    first = here.read("ca.pem"), here.read("ca-key.pem")
    for words in (["init-ca", "ca-csr.json"], ["gencert", "-initca", "ca-csr.json"]):
        assert here.pki(*words) == 1
        assert here.err.startswith(
            "Error: ca.pem already exists, and replacing the CA makes all certificates that it signed invalid;"
        )
    assert here.pki("gencert", "-ca=ca.pem", "-ca-key=ca-key.pem", "ca-csr.json") == 1
    assert here.err.startswith("Error: ca.pem is a CA certificate; it and ca-key.pem would be replaced.")
    assert (here.read("ca.pem"), here.read("ca-key.pem")) == first
    assert here.pki("init-ca", "--ca-key", "ca-key.pem", "ca-csr.json") == 0
    assert here.read("ca-key.pem") == first[1]
    assert here.read("ca.pem") != first[0]
    assert here.pki("init-ca", "--force", "ca-csr.json") == 0
    assert here.read("ca-key.pem") != first[1]


def test_a_process_whose_name_is_cut_within_a_character_is_another(tmp_path: Path) -> None:
    """The kernel keeps 15 bytes of a name."""
    program = "import sys; open('/proc/self/comm', 'wb').write(b'caf\\xc3'); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        name = _name(Path(f"/proc/{process.pid}"))
        process.stdin.close()
    assert name == "caf\ufffd"


def test_a_certificate_is_overwritten_like_cfssljson_does(with_ca: Here) -> None:
    for _ in range(2):
        assert with_ca.pki("gencert", *SIGN, "etcd-csr.json") == 0
    assert explain(with_ca.read("etcd.pem"), ca_pem=with_ca.read("ca.pem"), key_pem=with_ca.read("etcd-key.pem")) == []


def test_warnings(with_ca: Here) -> None:
    (with_ca.directory / "ca-key.pem").chmod(0o644)
    with_ca.write("etcd-csr", {"CN": "client"})
    with_ca.write("ca-config", {"signing": {"default": {"usages": ["client auth"], "expiry": "876000h"}}})
    assert with_ca.pki("gencert", *SIGN[:3], "etcd-csr.json") == 0
    lines = with_ca.err.splitlines()
    assert lines[0] == "Warning: ca-key.pem is readable by others; run chmod 600 ca-key.pem"
    assert lines[1] == "Warning: `hosts` is empty, so the certificate is valid for clients only"
    assert lines[2].startswith("Warning: its CA expires first, on ")
    assert len(lines) == 3


def test_the_password_of_the_ca_key(with_ca: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    key = from_pem(with_ca.read("ca-key.pem"), "x")
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    (with_ca.directory / "ca-key.pem").write_bytes(locked)
    assert with_ca.pki("gencert", *SIGN, "etcd-csr.json") == 1
    assert with_ca.err == "Error: ca-key.pem: the key is encrypted and no password was given\n"
    monkeypatch.setenv("CFSSL_CA_PK_PASSWORD", "wrong-one")
    assert with_ca.pki("gencert", *SIGN, "etcd-csr.json") == 1
    assert with_ca.err == "Error: ca-key.pem: cannot decrypt the key: wrong password?\n"
    monkeypatch.setenv("CFSSL_CA_PK_PASSWORD", "secret")
    assert with_ca.pki("gencert", *SIGN, "etcd-csr.json") == 0


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["gencert", "etcd-csr.json"], 2, "--ca is required"),
        (["gencert", "-ca=ca.pem", "etcd-csr.json"], 2, "--ca-key is required"),
        (["gencert", *SIGN], 2, "Missing argument 'CSR.json'"),
        (["gencert", "-initca", *SIGN, "ca-csr.json"], 2, "--ca and --initca cannot be combined"),
        (["gencert", *SIGN, "-remote=x", "etcd-csr.json"], 2, "No such option"),
        (["gencrt"], 2, "unknown command 'gencrt'; did you mean gencert?"),
        (["gencert", *SIGN, "absent.json"], 1, "Error: absent.json: No such file or directory\n"),
        (["gencert", *SIGN, "ca.pem"], 1, "Error: ca.pem:1: invalid JSON: "),
        (["gencert", *SIGN, "-config", "absent", "etcd-csr.json"], 1, "Error: absent: No such file or directory\n"),
        (
            ["gencert", *SIGN, "-profile", "kubernets", "etcd-csr.json"],
            1,
            "ca-config.json: unknown profile 'kubernets'; did you mean",
        ),
        (
            ["gencert", *SIGN[:2], "-profile", "www", "etcd-csr.json"],
            1,
            "without --config: unknown profile 'www'; profiles: none",
        ),
        (
            ["gencert", *SIGN, "-hostname", "a,b:1", "etcd-csr.json"],
            1,
            "Error: --hostname: not a valid host: 'b:1'; write it without the port",
        ),
        (
            ["gencert", *SIGN, "-ca", "etcd-csr.json", "etcd-csr.json"],
            1,
            "Error: etcd-csr.json: no readable certificate (PEM)",
        ),
        (["gencert", *SIGN, "-bare", "absent/etcd", "etcd-csr.json"], 1, "No such file or directory\n"),
        (["gencert", *SIGN, "-o", "", "etcd-csr.json", "more"], 2, "unexpected extra argument (more)"),
        (["show", "absent.pem"], 1, "Error: absent.pem: No such file or directory\n"),
        (["show", "etcd-csr.json"], 1, "Error: etcd-csr.json: no readable certificate (PEM)"),
        (["show", "ca-key.pem"], 1, "Error: ca-key.pem: no readable certificate (PEM)"),
        (["show", "127.0.0.1:1"], 1, "Error: 127.0.0.1:1: cannot connect: Connection refused"),
        (["show", "127.0.0.1:99999"], 1, "Error: 127.0.0.1:99999: cannot connect: "),
        (["verify", "ca.pem"], 2, "Missing option '--ca'"),
        (["verify", "ca.pem", "--ca", "absent"], 1, "Error: absent: No such file or directory\n"),
        (["renew", "absent.pem", "--ca-key", "ca-key.pem"], 1, "Error: absent.pem: No such file or directory\n"),
        (
            ["renew", "ca.pem", "--ca-key", "ca-key.pem"],
            1,
            "with a new key all certificates that it signed become invalid; pass --keep-key",
        ),
    ],
)
def test_errors_are_one_line_and_change_nothing(with_ca: Here, words: list[str], code: int, text: str) -> None:
    before = sorted(path.name for path in with_ca.directory.iterdir())
    assert with_ca.pki(*words) == code
    assert text in with_ca.err
    assert with_ca.out == ""
    assert "Traceback" not in with_ca.err
    assert sorted(path.name for path in with_ca.directory.iterdir()) == before


def test_show(with_ca: Here) -> None:
    with_ca.write(
        "etcd-csr", {**REQUEST, "hosts": ["n1", "10.0.0.1", "spiffe://a/b", "a@b.example"], "key": {"algo": "ed25519"}}
    )
    assert with_ca.pki("gencert", *SIGN, "etcd-csr.json") == 0
    assert with_ca.pki("show", "etcd.pem") == 0
    rows = dict(line.split("  ", 1) for line in with_ca.out.splitlines())
    rows = {title: text.strip() for title, text in rows.items()}
    certificate = read_certificate(with_ca.directory / "etcd.pem")
    assert rows["subject"] == "CN=etcd, C=CN, ST=BeiJing, L=BeiJing, O=k8s, OU=4Paradigm"
    assert rows["issuer"] == "CN=kubernetes"
    assert (rows["DNS names"], rows["IP addresses"], rows["URIs"], rows["email addresses"]) == (
        "n1",
        "10.0.0.1",
        "spiffe://a/b",
        "a@b.example",
    )
    assert rows["usages"] == "signing, key encipherment, server auth, client auth"
    assert rows["CA"] == "no"
    assert rows["valid until"].endswith("UTC, 364 days left")
    assert rows["key"] == "ed25519"
    assert rows["signed with"] == "sha256"
    assert rows["SHA-256"].replace(":", "").lower() == certificate.fingerprint(certificate.signature_hash_algorithm).hex()  # type: ignore[arg-type]
    chain = with_ca.read("etcd.pem") + with_ca.read("ca.pem")
    (with_ca.directory / "chain.pem").write_bytes(chain)
    assert with_ca.pki("show", "-w", "json", "chain.pem") == 0
    first, second = json.loads(with_ca.out)
    assert first["hosts"] == ["n1", "a@b.example", "10.0.0.1", "spiffe://a/b"]
    assert 364 < first["days_left"] < 365
    assert datetime.fromisoformat(first["not_after"]) == certificate.not_valid_after_utc
    assert (second["subject"], second["is_ca"], second["path_length"]) == ("CN=kubernetes", True, None)


def test_show_an_expired_ca(with_ca: Here) -> None:
    now = datetime.now(UTC)
    ca = init_ca(Request("old", names=({"O": "x"},)), timedelta(days=100), path_length=1, now=now - timedelta(days=130))
    (with_ca.directory / "old.pem").write_bytes(ca.certificate)
    assert with_ca.pki("show", "old.pem") == 0
    assert "UTC, expired 30 days ago\n" in with_ca.out
    assert "issuer         self-signed\n" in with_ca.out
    assert "yes, path length 1" in with_ca.out
    assert "hosts          none\n" in with_ca.out


def test_a_certificate_with_the_name_of_its_ca_is_not_self_signed(with_ca: Here) -> None:
    with_ca.write("etcd-csr", {"CN": "kubernetes", "hosts": ["n1"], "key": {"algo": "ecdsa", "size": 256}})
    assert with_ca.pki("gencert", *SIGN, "etcd-csr.json") == 0
    assert with_ca.pki("show", "etcd.pem") == 0
    assert "issuer         CN=kubernetes\n" in with_ca.out
    assert with_ca.pki("show", "ca.pem") == 0
    assert "issuer         self-signed\n" in with_ca.out


def test_verify(with_ca: Here) -> None:
    assert with_ca.pki("gencert", *SIGN, "etcd-csr.json") == 0
    good = ["verify", "etcd.pem", "--ca", "ca.pem", "--host", "127.0.0.1", "--usage", "server", "--key", "etcd-key.pem"]
    assert with_ca.pki(*good) == 0
    assert with_ca.out.startswith("etcd.pem is valid: CN=etcd for 127.0.0.1, 172.27.129.105, ")
    assert with_ca.out.endswith("364 days left; signed by CN=kubernetes\n")
    assert with_ca.pki("verify", "etcd.pem", "-ca", "ca.pem", "-host=10.0.0.1", "-key", "ca-key.pem") == 1
    assert with_ca.out == ""
    assert with_ca.err.splitlines() == [
        "etcd.pem: it is valid for 127.0.0.1, 172.27.129.105, 172.27.129.111 and 172.27.129.112, not for 10.0.0.1",
        "etcd.pem: the key does not match the certificate",
    ]


@contextmanager
def serving(directory: Path, *, tls: bool = True) -> Iterator[int]:
    """The port of a TLS server with etcd.pem that requires client certificates, like a member."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "etcd.pem", directory / "etcd-key.pem")
    context.load_verify_locations(directory / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    with create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)

        def serve() -> None:
            try:
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.settimeout(60)
                        if tls:
                            try:
                                context.wrap_socket(connection, server_side=True).close()
                            except OSError:  # no client certificate, or disconnected
                                continue
                        else:
                            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            except OSError:  # the listener was closed
                return

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(2)
            thread.join()


def test_the_certificate_of_a_server(with_ca: Here) -> None:
    assert with_ca.pki("gencert", *SIGN, "etcd-csr.json") == 0
    with serving(with_ca.directory) as port:
        assert with_ca.pki("show", f"127.0.0.1:{port}", "-w", "json") == 0
        assert json.loads(with_ca.out)[0]["hosts"] == REQUEST["hosts"]
        assert with_ca.pki("verify", f"https://127.0.0.1:{port}", "--ca", "ca.pem") == 0
        assert with_ca.pki("verify", f"localhost:{port}", "--ca", "ca.pem") == 1
        hosts = "127.0.0.1, 172.27.129.105, 172.27.129.111 and 172.27.129.112"
        assert with_ca.err == f"localhost:{port}: it is valid for {hosts}, not for localhost\n"
    with serving(with_ca.directory, tls=False) as port:
        assert with_ca.pki("show", f"127.0.0.1:{port}") == 1
        assert "TLS handshake failed: the server does not use TLS (plain HTTP?)" in with_ca.err


def test_renew(with_ca: Here) -> None:
    assert with_ca.pki("gencert", *SIGN, "etcd-csr.json") == 0
    old = [with_ca.read(name) for name in ("etcd.pem", "etcd-key.pem", "etcd.csr")]
    line = ["renew", "etcd.pem", "--ca", "ca.pem", "--ca-key", "ca-key.pem"]
    assert with_ca.pki(*line) == 0
    assert with_ca.out.splitlines()[1] == "etcd-key.pem  new private key (ecdsa 256)"
    new = [with_ca.read(name) for name in ("etcd.pem", "etcd-key.pem", "etcd.csr")]
    assert all(before != after for before, after in zip(old, new, strict=True))
    assert x509.load_pem_x509_csr(new[2]).public_key() == x509.load_pem_x509_certificate(new[0]).public_key()
    assert explain(new[0], ca_pem=with_ca.read("ca.pem"), host="172.27.129.111", usage="server", key_pem=new[1]) == []
    assert with_ca.pki(*line, "--keep-key", "--days", "10") == 0
    assert with_ca.out.splitlines()[1] == "etcd-key.pem  kept"
    assert with_ca.out.splitlines()[0].endswith(", 9 days left")
    assert with_ca.read("etcd-key.pem") == new[1]
    assert with_ca.modes()["etcd-key.pem"] == 0o600
    assert not [path.name for path in with_ca.directory.iterdir() if path.name.startswith(".")]


def test_renew_elsewhere(with_ca: Here) -> None:
    """Other file names, a symlink, and an intermediate CA in the certificate file."""
    ca = init_ca(Request("top"))
    middle = issue_as(ca.pair(), Request("middle"), Profile(usages=("cert sign",), is_ca=True))
    member = issue(middle.pair(), Request("n1", ("n1",)))
    files = {"n1.crt": member.certificate + middle.certificate, "n1.key": member.key}
    files |= {"top.pem": ca.certificate, "middle.pem": middle.certificate, "middle-key.pem": middle.key}
    for name, content in files.items():
        (with_ca.directory / name).write_bytes(content)
        (with_ca.directory / name).chmod(0o600)
    (with_ca.directory / "link.crt").symlink_to("n1.crt")
    (with_ca.directory / "link.key").symlink_to("n1.key")
    assert with_ca.pki("renew", "link.crt", "--ca", "middle.pem", "--ca-key", "middle-key.pem") == 0
    assert (with_ca.directory / "link.crt").is_symlink()
    assert explain(with_ca.read("n1.crt"), ca_pem=ca.certificate, host="n1", key_pem=with_ca.read("n1.key")) == []
    assert with_ca.read("n1.key") != member.key
    assert with_ca.pki("renew", "n1.crt", "--ca", "ca.pem", "--ca-key", "ca-key.pem", "--keep-key", "--days", "9999") == 0
    assert "Warning: the issuer changed from CN=middle to CN=kubernetes" in with_ca.err
    assert "Warning: its CA expires first" in with_ca.err
    (with_ca.directory / "n1.key").unlink()
    assert with_ca.pki("renew", "n1.crt", "--ca", "ca.pem", "--ca-key", "ca-key.pem") == 1
    assert "n1.key: no such file; set the key with --key" in with_ca.err
    assert with_ca.pki("renew", "n1.crt", "--ca-key", "ca-key.pem") == 2
    assert "--ca is required: n1.crt is not self-signed" in with_ca.err


def test_renew_a_ca(with_ca: Here) -> None:
    assert with_ca.pki("gencert", *SIGN, "etcd-csr.json") == 0
    before = with_ca.read("ca.pem"), with_ca.read("ca-key.pem")
    assert with_ca.pki("renew", "ca.pem", "--ca-key", "etcd-key.pem", "--keep-key") == 1
    assert with_ca.err == "Error: etcd-key.pem is not the key of ca.pem\n"
    assert with_ca.pki("renew", "ca.pem", "--ca-key", "ca-key.pem", "--keep-key") == 0
    assert with_ca.read("ca.pem") != before[0]
    assert with_ca.read("ca-key.pem") == before[1]
    assert with_ca.pki("verify", "etcd.pem", "--ca", "ca.pem") == 0


def test_help_has_example_command_lines(here: Here) -> None:
    assert here.pki("--help") == 0
    assert "tercet pki gencert -initca ca-csr.json" in here.out
    assert "cfssl gencert -ca=ca.pem -ca-key=ca-key.pem" in here.out


@pytest.mark.parametrize(
    ("command", "file"),
    [("pki init-ca ca-csr.json", "ca-key.pem"), ("pki age-key -o backup.key", "backup.key"), ("deploy init", "cluster.yaml")],
)
def test_a_file_that_cannot_be_written_is_named_and_leaves_nothing(tmp_path: Path, command: str, file: str) -> None:
    """A limit of zero bytes for a file stands for a full disk: the creation succeeds, the write fails."""
    (tmp_path / "ca-csr.json").write_text('{"CN": "ca", "key": {"algo": "ecdsa", "size": 256}}')
    line = f"ulimit -f 0; exec {sys.executable} -B -m tercet {command}"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, timeout=scaled(60), check=False)
    assert (done.returncode, done.stderr) == (1, f"Error: {file}: File too large\n")
    assert [path.name for path in tmp_path.iterdir()] == ["ca-csr.json"]
