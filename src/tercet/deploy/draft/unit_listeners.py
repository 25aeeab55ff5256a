"""Import of a unit: ports, TLS and listeners from the URLs in the flags."""

from __future__ import annotations

import ipaddress

from tercet.deploy.cluster.command_flags import CommandFlags
from tercet.deploy.cluster.server_facts import Url, parse_urls
from tercet.deploy.draft.draft import Draft
from tercet.deploy.draft.member_list import MemberList
from tercet.deploy.draft.unit_reading import PLACEHOLDER
from tercet.errors import ConfigError

_PLACEHOLDER_HOST = "placeholder.invalid"
_CLIENT_PORT, _PEER_PORT = 2379, 2380


def take_listeners(flags: CommandFlags, members: MemberList | None, draft: Draft, where: str) -> None:
    """where: file and line, for messages. Raises ConfigError."""
    clients = _urls(flags, "listen-client-urls", where)
    advertised = _urls(flags, "advertise-client-urls", where)
    peers = _urls(flags, "listen-peer-urls", where) + _urls(flags, "initial-advertise-peer-urls", where)
    outside = [url for url in (*clients, *advertised) if not _is_loopback(url)]
    client_port = _one_port(outside, "clients", where)
    peer_port = members.peer_port if members is not None else _one_port(peers, "peers", where)
    if client_port not in (None, _CLIENT_PORT):
        draft.set("listen", "client_port", client_port or _CLIENT_PORT)
    if peer_port not in (None, _PEER_PORT):
        draft.set("listen", "peer_port", peer_port or _PEER_PORT)
    _take_scheme(outside, peers, members, draft)
    _take_loopback([url for url in clients if _is_loopback(url)], client_port or _CLIENT_PORT, draft)
    wildcard = [url.text for url in (*clients, *peers) if url.host in ("0.0.0.0", "::")]
    if wildcard:
        draft.note(
            f"The unit listens on all addresses ({wildcard[0]}); the deployed member listens on its address and on 127.0.0.1."
        )
    _take_metrics(flags, draft, where)
    http = flags.take("listen-client-http-urls")
    if http:
        draft.note(f"Not imported: --listen-client-http-urls={http} (gRPC and HTTP share one listener).")


def _urls(flags: CommandFlags, name: str, where: str) -> list[Url]:
    text = PLACEHOLDER.sub(_PLACEHOLDER_HOST, flags.take(name))
    try:
        urls = list(parse_urls(text)) if text else []
    except ValueError as error:
        raise ConfigError(f"{where}: ExecStart: --{name}: {error}") from error
    return [url for url in urls if not url.is_unix]


def _is_loopback(url: Url) -> bool:
    try:
        return ipaddress.ip_address(url.host).is_loopback
    except ValueError:
        return url.host == "localhost"


def _one_port(urls: list[Url], who: str, where: str) -> int | None:
    ports = sorted({url.port for url in urls})
    if len(ports) > 1:
        shown = " and ".join(map(str, ports))
        raise ConfigError(f"{where}: ExecStart: the URLs for {who} have the ports {shown}; a cluster file has one per kind")
    return ports[0] if ports else None


def _take_scheme(clients: list[Url], peers: list[Url], members: MemberList | None, draft: Draft) -> None:
    """tls.enabled is one switch: false only if no URL of the unit uses TLS."""
    secure = [url.is_secure for url in (*clients, *peers)] + ([members.is_secure] if members is not None else [])
    if not secure or all(secure):
        return
    if any(secure):
        draft.note("The unit uses TLS on some of its URLs; the deployed member uses it for clients and peers.")
        return
    draft.set("tls", "enabled", False)
    draft.note("TLS is disabled, since the unit has http:// URLs only; set tls.enabled: true to enable it.")


def _take_loopback(urls: list[Url], client_port: int, draft: Draft) -> None:
    if draft.settings.get("tls", {}).get("enabled") is False:
        return
    for url in urls:
        if url.port != client_port:
            draft.note(f"Not imported: listener {url.text}; on 127.0.0.1 members listen on the client port.")
        elif not url.is_secure:
            draft.set("listen", "plain_loopback", True)


def _take_metrics(flags: CommandFlags, draft: Draft, where: str) -> None:
    urls = _urls(flags, "listen-metrics-urls", where)
    if len(urls) == 1 and urls[0].host != _PLACEHOLDER_HOST:
        draft.set("listen", "metrics_url", urls[0].text)
    elif urls:
        shown = ",".join(url.text for url in urls).replace(_PLACEHOLDER_HOST, "<address>")
        draft.note(f"Not imported: metrics listeners {shown}; listen.metrics_url is one URL for all hosts.")
