"""Checks listen URLs against the configured certificates, before any socket is opened.

A TLS URL without a certificate is an error. A plain URL beside a certificate is probably a mistake, and logs a warning.
"""

from __future__ import annotations

from collections.abc import Iterable

from tercet.config.server_config import ServerConfig
from tercet.config.startup_error import Line, warn
from tercet.errors import ConfigError
from tercet.gotext.urls import Url
from tercet.server.tls.cipher_suites import openssl_ciphers
from tercet.server.tls.files import TlsFiles, client_tls, peer_tls

_PEER_SCHEME, _CLIENT_SCHEME = "HTTP", "http or unix"  # the two texts of etcd differ


def check_listeners(config: ServerConfig) -> list[Line]:
    """Warnings. Raises ConfigError with etcd's text."""
    openssl_ciphers(config.cipher_suites)
    peers, clients = peer_tls(config), client_tls(config)
    for url in config.listen_peer_urls:
        if url.is_secure and peers.is_empty and not config.peer_auto_tls:
            raise ConfigError(f"cannot listen on TLS for {url.address}: KeyFile and CertFile are not presented")
    for url in (*config.listen_client_urls, *config.listen_client_http_urls):
        if url.is_secure and clients.is_empty and not config.auto_tls:
            raise ConfigError(f"TLS key/cert (--cert-file, --key-file) must be provided for client url {url} with HTTPS scheme")
    if any(url.is_secure for url in config.listen_metrics_urls) and clients.is_empty and not config.auto_tls:
        raise ConfigError("client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url")
    peers.check_pairs()
    return [
        *_given(peers, "peer", is_auto=config.peer_auto_tls),
        *_given(clients, "client", is_auto=config.auto_tls),
        *_ignored(config.listen_peer_urls, peers, "peer-url", "--peer-client-cert-auth", _PEER_SCHEME),
        *_ignored(config.listen_client_urls, clients, "client-url", "--client-cert-auth", _CLIENT_SCHEME),
    ]


def _given(files: TlsFiles, side: str, *, is_auto: bool) -> Iterable[Line]:
    if is_auto and not files.is_empty:
        yield warn(f"ignoring {side} auto TLS since certs given")


def serves_clients_with_tls(config: ServerConfig) -> bool:
    """Only then are the certificate files of the client listeners read, as by etcd."""
    urls = (*config.listen_client_urls, *config.listen_client_http_urls, *config.listen_metrics_urls)
    return any(url.is_secure for url in urls)


def _ignored(urls: Iterable[Url], files: TlsFiles, field: str, auth_flag: str, scheme: str) -> Iterable[Line]:
    for url in urls:
        if url.is_secure:
            continue
        if not files.is_empty:
            text = f"scheme is {scheme} while key and cert files are present; ignoring key and cert files"
            yield warn(text, **{field: url.text})
        if files.client_cert_auth:
            yield warn(
                f"scheme is {scheme} while {auth_flag} is enabled; ignoring client cert auth for this URL", **{field: url.text}
            )
