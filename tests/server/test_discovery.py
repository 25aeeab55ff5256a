"""Discovery against a DNS server of the test, and against a discovery service that fails on request."""

from __future__ import annotations

import asyncio

import dns.resolver
import pytest

from tercet.client.srv import LookupFailed, SrvTarget, client_endpoints, lookup_srv
from tercet.config.initial_cluster import parse_initial_cluster
from tercet.config.server_config import ServerConfig
from tercet.errors import Code, ConfigError, StatusError
from tercet.proto import kv_pb2, rpc_pb2
from tercet.server.default_host import resolve
from tercet.server.discovery import discover, peer_server_name
from tercet.server.discovery_token import DiscoveryError, Registered, Registry
from tests.config.configured import config
from tests.support.dns import Records, dns_server, silent_port

SERVERS: Records = {
    ("_etcd-server._tcp.example.com", "SRV"): ["0 0 2380 localhost.", "0 0 2381 localhost.", "0 0 2382 nowhere.invalid."],
    ("_etcd-server-ssl-blue._tcp.example.com", "SRV"): ["0 0 2380 localhost."],
    ("_etcd-client-ssl._tcp.example.com", "SRV"): ["0 0 2379 db1.example.com."],
    ("_etcd-client._tcp.example.com", "SRV"): ["9 0 1 far.", "0 0 2 near.", "1 1 3 middle."],
    ("empty.example.com", "TXT"): ["x"],
}


@pytest.mark.parametrize("truncated", [False, True])
def test_targets_come_by_priority_over_udp_or_tcp(truncated: bool) -> None:
    with dns_server(SERVERS, udp_is_truncated=truncated) as server:
        targets = lookup_srv("etcd-client", "example.com", server.resolver())
        assert targets == [SrvTarget("near", 2), SrvTarget("middle", 3), SrvTarget("far", 1)]
        assert [transport for transport, _ in server.asked] == (["udp", "tcp"] if truncated else ["udp"])


def test_secure_endpoints_come_first() -> None:
    with dns_server(SERVERS) as server:
        endpoints = client_endpoints("example.com.", "", server.resolver())
        assert endpoints[:2] == ["https://db1.example.com:2379", "http://near:2"]
        with pytest.raises(LookupFailed) as failed:
            client_endpoints("example.com", "none", server.resolver())
    ssl, plain = (f"lookup _etcd-client{kind}-none._tcp.example.com: no such host" for kind in ("-ssl", ""))
    assert str(failed.value) == f"dns lookup errors: {ssl} and {plain}"


def test_a_server_that_is_silent_is_a_timeout() -> None:
    silent, port = silent_port()
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port, resolver.lifetime = ["127.0.0.1"], port, 0.3
    with silent, pytest.raises(LookupFailed, match="i/o timeout"):
        lookup_srv("etcd-server", "example.com", resolver)


def by_dns(*flags: str) -> ServerConfig:
    async def run() -> ServerConfig:
        with dns_server(SERVERS) as server:
            return await discover(config("--name=n1", "--discovery-srv=example.com", *flags), resolve, server.resolver())

    return asyncio.run(run())


OWN = "--initial-advertise-peer-urls=http://127.0.0.1:2380"


def test_the_own_record_gets_the_own_name_and_others_get_numbers() -> None:
    found = parse_initial_cluster(by_dns(OWN).initial_cluster)
    assert {name: [url.text for url in urls] for name, urls in found.items()} == {
        "n1": ["http://localhost:2380"],
        "0": ["http://localhost:2381"],
    }


def test_the_service_name_is_a_suffix() -> None:
    found = by_dns("--discovery-srv-name=blue", OWN.replace("http:", "https:"))
    assert found.initial_cluster == "n1=https://localhost:2380"


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ((OWN.replace("2380", "2399"),), 'cannot find local etcd member "n1" in SRV records'),
        (("--discovery-srv-name=none", OWN), "error querying DNS SRV records for _etcd-server-none lookup"),
        (("--discovery-srv-name=blue", OWN), "has scheme mismatch with expected peer http://127.0.0.1:2380"),
    ],
)
def test_records_that_form_no_cluster(flags: tuple[str, ...], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        by_dns(*flags)


@pytest.mark.parametrize(
    ("cluster", "flags", "name"),
    [
        ("https://a:2380", ("--discovery-srv=example.com",), "example.com"),
        ("http://a:2380", ("--discovery-srv=example.com",), ""),
        ("https://a:2380", ("--discovery-srv=example.com", "--peer-trusted-ca-file=ca.pem"), ""),
        ("https://a:2380", (), ""),
    ],
)
def test_peers_found_by_dns_have_certificates_of_the_domain(cluster: str, flags: tuple[str, ...], name: str) -> None:
    found = config("--name=n1", *flags)._replace(initial_cluster=f"n1={cluster}")
    assert peer_server_name(found) == name


def test_without_discovery_nothing_changes() -> None:
    given = config("--name=n1")
    assert asyncio.run(discover(given, resolve)) is given


class FakeKv:
    """The keys of a discovery service; `failures` requests fail first."""

    def __init__(self, size: str | None, members: dict[str, str], failures: int = 0) -> None:
        self.size = size
        self.members = dict(members)
        self.failures = failures

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise StatusError(Code.UNAVAILABLE, "etcdserver: no leader")

    async def range(self, request: rpc_pb2.RangeRequest, *, timeout: float) -> rpc_pb2.RangeResponse:
        self._fail()
        if request.key.endswith(b"/_config/size"):
            kvs = [] if self.size is None else [kv_pb2.KeyValue(value=self.size.encode())]
            return rpc_pb2.RangeResponse(kvs=kvs)
        return rpc_pb2.RangeResponse(kvs=[kv(key, text, number) for number, (key, text) in enumerate(self.members.items())])

    async def put(self, request: rpc_pb2.PutRequest, *, timeout: float) -> rpc_pb2.PutResponse:
        self._fail()
        self.members[request.key.decode()] = request.value.decode()
        return rpc_pb2.PutResponse()


class FakeClient:
    def __init__(self, kv: FakeKv) -> None:
        self.kv = kv


def kv(key: str, value: str, create_revision: int) -> kv_pb2.KeyValue:
    return kv_pb2.KeyValue(key=key.encode(), value=value.encode(), create_revision=create_revision)


PREFIX = "/_etcd/registry/token/members"


def join(service: FakeKv, pauses: list[float] | None = None) -> str:
    async def sleep(seconds: float) -> None:
        assert pauses is not None
        pauses.append(seconds)

    async def run() -> str:
        client: object = FakeClient(service)
        registry = Registry(client, "token", timeout_seconds=1.0, sleep=sleep)  # type: ignore[arg-type]
        return await registry.join("aa", "n1=http://a:1")

    return asyncio.run(run())


def test_the_last_member_of_a_cluster_registers_itself() -> None:
    service = FakeKv("2", {f"{PREFIX}/bb": "n2=http://b:1"})
    assert join(service) == "n2=http://b:1,n1=http://a:1"
    assert service.members[f"{PREFIX}/aa"] == "n1=http://a:1"


def test_a_full_cluster_takes_its_own_members_only() -> None:
    others = {f"{PREFIX}/bb": "n2=http://b:1", f"{PREFIX}/cc": "n3=http://c:1"}
    with pytest.raises(DiscoveryError, match="discovery: cluster is full"):
        join(FakeKv("2", others))
    assert join(FakeKv("2", {f"{PREFIX}/aa": "n1=http://a:1", **others})) == "n1=http://a:1,n2=http://b:1"


@pytest.mark.parametrize(
    ("size", "text"),
    [(None, "size key not found"), ("0", "size key is bad"), ("x", "size key is bad"), ("9" * 5000, "size key is bad")],
)
def test_a_token_without_a_size(size: str | None, text: str) -> None:
    with pytest.raises(DiscoveryError, match=text):
        join(FakeKv(size, {}))


def test_failed_requests_are_repeated_with_growing_pauses() -> None:
    pauses: list[float] = []
    assert join(FakeKv("1", {}, failures=10), pauses) == "n1=http://a:1"
    assert pauses == [2, 4, 8, 16, 32, 64, 128, 256, 256, 256]


def test_the_first_to_register_form_the_cluster() -> None:
    registered = Registered(PREFIX)
    for number, name in ((7, "late"), (5, "first"), (6, "second")):
        registered.add(kv(f"{PREFIX}/{name}", f"{name}=http://{name}:1", number))
    registered.add(kv(f"{PREFIX}/first", "other=http://other:1", 1))  # a key registers once
    registered.add(kv(f"{PREFIX}/odd", "no URL", 1))
    assert registered.initial_cluster(2) == "first=http://first:1,second=http://second:1"
