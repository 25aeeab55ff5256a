"""DNS SRV records of a cluster: its clients' endpoints and its members' peer addresses.

    _etcd-client-ssl._tcp.example.com.   SRV  0 0 2379 db1.example.com.   ->  https://db1.example.com:2379
    _etcd-client._tcp.example.com.       SRV  0 0 2379 db1.example.com.   ->  http://db1.example.com:2379

A service name (--discovery-srv-name) is appended: `_etcd-client-ssl-NAME`.

Source: etcd client/pkg/srv/srv.go; RFC 2782, for the order of records.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from tercet.gotext.host_port import join_host_port

if TYPE_CHECKING:
    from dns.resolver import Resolver


class SrvTarget(NamedTuple):
    """host: without the trailing dot."""

    host: str
    port: int


@dataclass(frozen=True)
class SrvDomain:
    """Where to look for endpoints. name: see srv_service. resolver: None for the system's."""

    domain: str
    name: str = ""
    resolver: Resolver | None = None


class LookupFailed(Exception):
    """The text is Go's."""


def srv_service(service: str, name: str, *, secure: bool) -> str:
    """The service in the records' names: `etcd-client`, `etcd-client-ssl-NAME`."""
    return "-".join(part for part in (service, "ssl" if secure else "", name) if part)


def lookup_srv(service: str, domain: str, resolver: Resolver | None = None) -> list[SrvTarget]:
    """The targets of `_service._tcp.domain`, by priority, then at random by weight. Blocks. Raises LookupFailed.

    resolver: None for the system's (/etc/resolv.conf).
    """
    import dns.exception  # takes 60 ms
    import dns.resolver

    name = f"_{service}._tcp.{domain}"
    try:
        answer = (resolver or dns.resolver.Resolver()).resolve(name.removesuffix(".") + ".", "SRV")
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer) as error:
        raise LookupFailed(f"lookup {name}: no such host") from error
    except dns.exception.Timeout as error:
        raise LookupFailed(f"lookup {name}: i/o timeout") from error
    except (dns.exception.DNSException, OSError) as error:
        raise LookupFailed(f"lookup {name}: server misbehaving") from error
    records = [(int(one.priority), int(one.weight), str(one.target).removesuffix("."), int(one.port)) for one in answer]
    return _ordered(records)


def _ordered(records: Iterable[tuple[int, int, str, int]]) -> list[SrvTarget]:
    """Ascending priority; within one, heavier records tend to come first."""
    keyed = [(priority, random.random() ** (1 / (weight or 0.1)), host, port) for priority, weight, host, port in records]
    keyed.sort(key=lambda record: (record[0], -record[1]))
    return [SrvTarget(host, port) for _, _, host, port in keyed]


def client_endpoints(domain: str, name: str, resolver: Resolver | None = None) -> list[str]:
    """The URLs of a cluster's clients, secure ones first. Blocks. Raises LookupFailed if neither kind of record is found."""
    endpoints: list[str] = []
    failures: list[str] = []
    for scheme in ("https", "http"):
        service = srv_service("etcd-client", name, secure=scheme == "https")
        try:
            targets = lookup_srv(service, domain, resolver)
        except LookupFailed as failed:
            failures.append(str(failed))
            continue
        endpoints += [f"{scheme}://{join_host_port(target.host, target.port)}" for target in targets]
    if len(failures) == 2:
        raise LookupFailed(f"dns lookup errors: {failures[0]} and {failures[1]}")
    return endpoints
