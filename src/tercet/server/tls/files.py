"""Which files and rules make up the TLS of one side, clients or peers, as the configuration says it."""

from __future__ import annotations

from dataclasses import dataclass

from tercet.config.server_config import ServerConfig
from tercet.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """prefix: of the flags that named the files ("" or "peer-"), for error texts.

    client_cert, client_key: shown when dialing; the listener's own where empty.
    ca: what certificates of the other side are checked with; empty means the system's.
    is_self_signed: made by auto-tls, so that a dialer has nothing to check the other side with.
    check_san: compare the addresses in a dialer's certificate with where it comes from.
    """

    prefix: str = ""
    cert: str = ""
    key: str = ""
    client_cert: str = ""
    client_key: str = ""
    ca: str = ""
    crl: str = ""
    client_cert_auth: bool = False
    allowed_cns: tuple[str, ...] = ()
    allowed_hostnames: tuple[str, ...] = ()
    cipher_suites: tuple[str, ...] = ()
    min_version: str = "TLS1.2"
    max_version: str = ""
    is_self_signed: bool = False
    check_san: bool = False

    @property
    def is_empty(self) -> bool:
        return not self.cert and not self.key

    @property
    def requires_client_cert(self) -> bool:
        return bool(self.ca) or self.client_cert_auth

    def check_pairs(self) -> None:
        """Raises ConfigError, with etcd's text, for a certificate without its key or the reverse."""
        if bool(self.cert) != bool(self.key):
            raise ConfigError(f"KeyFile and CertFile must both be present[key: {self.key}, cert: {self.cert}]")
        if bool(self.client_cert) != bool(self.client_key):
            raise ConfigError(
                "ClientKeyFile and ClientCertFile must both be present or both absent: "
                f"key: {self.client_key}, cert: {self.client_cert}]"
            )
        if self.allowed_cns and self.allowed_hostnames:
            cns, hostnames = (" ".join(f'"{name}"' for name in names) for names in (self.allowed_cns, self.allowed_hostnames))
            raise ConfigError(f"AllowedCNs and AllowedHostnames are mutually exclusive (cns=[{cns}], hostnames=[{hostnames}])")


def client_tls(config: ServerConfig) -> TlsFiles:
    return TlsFiles(
        cert=config.cert_file,
        key=config.key_file,
        client_cert=config.client_cert_file,
        client_key=config.client_key_file,
        ca=config.trusted_ca_file,
        crl=config.client_crl_file,
        client_cert_auth=config.client_cert_auth,
        allowed_hostnames=config.client_cert_allowed_hostname,
        cipher_suites=config.cipher_suites,
        min_version=config.tls_min_version,
        max_version=config.tls_max_version,
    )


def peer_tls(config: ServerConfig) -> TlsFiles:
    return TlsFiles(
        prefix="peer-",
        cert=config.peer_cert_file,
        key=config.peer_key_file,
        client_cert=config.peer_client_cert_file,
        client_key=config.peer_client_key_file,
        ca=config.peer_trusted_ca_file,
        crl=config.peer_crl_file,
        client_cert_auth=config.peer_client_cert_auth,
        allowed_cns=config.peer_cert_allowed_cn,
        allowed_hostnames=config.peer_cert_allowed_hostname,
        cipher_suites=config.cipher_suites,
        min_version=config.tls_min_version,
        max_version=config.tls_max_version,
        check_san=not config.peer_skip_client_san_verification,
    )
