"""A member with separate TLS listeners for gRPC, HTTP and metrics: what each serves, and whom it refuses."""

from __future__ import annotations

import http.client
import json
import ssl
from pathlib import Path

import pytest

from tests.cluster.conftest import Planned
from tests.server.certificates import Authority, Pair
from tests.support.client import Client, Credentials
from tests.support.processes import QUICK, Member, etcdctl, free_port
from tests.support.waiting import scaled


class Split:
    """The member and its clients: alice, and mallory, whose certificate is revoked."""

    def __init__(self, member: Member, authority: Authority) -> None:
        self.member, self.authority = member, authority
        self.web, self.metrics = free_port(), free_port()
        self.server = authority.sign("server", "n1", "127.0.0.1", "localhost")
        self.alice, self.mallory = authority.sign("alice", "root"), authority.sign("mallory", "mallory")
        self.crl = authority.revoke(self.mallory.serial)

    def start(self) -> None:
        member = self.member
        grpc_url = f"https://127.0.0.1:{member.client_port}"
        kept = [flag for flag in member.flags if "client-urls" not in flag]
        member.flags = [
            *kept,
            f"--listen-client-urls={grpc_url}",
            f"--advertise-client-urls={grpc_url}",
            f"--listen-client-http-urls=https://127.0.0.1:{self.web}",
            f"--listen-metrics-urls=https://127.0.0.1:{self.metrics}",
            f"--cert-file={self.server.cert}",
            f"--key-file={self.server.key}",
            f"--trusted-ca-file={self.authority.path}",
            f"--client-crl-file={self.crl}",
            "--client-cert-auth",
        ]
        member.credentials = self.credentials(self.alice)
        member.start().wait_said("ready to serve")

    def credentials(self, pair: Pair) -> Credentials:
        return Credentials(Path(self.authority.path), Path(pair.cert), Path(pair.key))

    def ask(self, pair: Pair, port: int, method: str, path: str, body: str = "") -> tuple[int, str]:
        """Raises OSError or HTTPException where the client is refused."""
        context = self.credentials(pair).context()
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=scaled(10), context=context)
        try:
            connection.request(method, path, body or None)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()


REFUSED = (OSError, http.client.HTTPException, ssl.SSLError)


@pytest.fixture
def split(plan: Planned, tmp_path: Path) -> Split:
    split = Split(plan(["n1"], QUICK)["n1"], Authority(tmp_path))
    split.start()
    return split


def test_each_listener_serves_its_protocol_and_refuses_revoked_clients(split: Split) -> None:
    member = split.member
    assert split.ask(split.alice, split.web, "POST", "/v3/kv/put", '{"key":"YQ==","value":"MQ=="}')[0] == 200
    assert member.client.get(b"a") == b"1"
    assert json.loads(split.ask(split.alice, split.web, "GET", "/health")[1])["health"] == "true"
    assert "etcd_server_has_leader 1" in split.ask(split.alice, split.metrics, "GET", "/metrics")[1]
    assert split.ask(split.alice, split.metrics, "POST", "/v3/kv/range", "{}")[0] == 404
    with pytest.raises(REFUSED):
        split.ask(split.alice, member.client_port, "GET", "/health")

    for port in (split.web, split.metrics):
        with pytest.raises(REFUSED):
            split.ask(split.mallory, port, "GET", "/health")
    for port in (member.client_port, split.web):  # the latter serves no gRPC to anybody
        client = Client(f"127.0.0.1:{port}", split.credentials(split.mallory))
        with pytest.raises(Client.Error):
            client.get(b"a", timeout=1)
        client.close()
    member.wait_said(f"transport: certificate serial {split.mallory.serial:x} revoked")

    # A renewed list counts for the next handshake; the open connection goes on.
    split.authority.revoke(split.mallory.serial, split.alice.serial)
    with pytest.raises(REFUSED):
        split.ask(split.alice, split.web, "GET", "/health")
    assert member.client.get(b"a") == b"1"


def test_the_name_of_a_certificate_is_a_user_over_grpc_and_refused_over_the_gateway(split: Split) -> None:
    def ctl(*words: str) -> str:
        outcome = etcdctl([split.member], *words)
        assert outcome.returncode == 0, outcome.stderr
        return outcome.stdout

    ctl("user", "add", "root", "--no-password")
    ctl("role", "add", "root")
    ctl("user", "grant-role", "root", "root")
    ctl("auth", "enable")
    ctl("put", "a", "1")
    status, text = split.ask(split.alice, split.web, "POST", "/v3/kv/range", '{"key":"YQ=="}')
    assert (status, text.split(" of ")[0]) == (400, "CommonName")
    assert split.ask(split.alice, split.web, "GET", "/version")[0] == 200
