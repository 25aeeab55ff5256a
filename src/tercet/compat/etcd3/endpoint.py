"""An endpoint of the cluster, and what is needed to call it."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterable
from typing import Any

from tercet.client import TLSFiles
from tercet.compat.blocking_channel import BlockingChannel
from tercet.errors import ConfigError


class Endpoint:
    """One member's address. After a failure it is not used for `time_retry` seconds.

    creds: what `MultiEndpointEtcd3Client.get_secure_creds` returns, or any ssl.SSLContext that offers ALPN h2.
    opts: channel arguments of grpcio, as pairs or a dictionary.
    """

    def __init__(
        self,
        host: str,
        port: int,
        secure: bool = True,
        creds: ssl.SSLContext | None = None,
        time_retry: float = 300.0,
        opts: Any = None,
    ) -> None:
        self.host = host
        self.netloc = f"{host}:{port}"
        self.secure = secure
        self.protocol = "https" if secure else "http"
        if secure and creds is None:
            raise ValueError("Please set TLS credentials for secure connections")
        if creds is not None and not isinstance(creds, ssl.SSLContext):
            raise TypeError("creds must be an ssl.SSLContext, such as get_secure_creds returns")
        self.credentials = creds
        self.time_retry = time_retry
        self.in_use = False
        self.last_failed = 0.0
        self.channel = self._mkchannel(opts)

    def close(self) -> None:
        """Close the connection."""
        self.channel.close()

    def fail(self) -> None:
        """Do not use the endpoint for a while."""
        self.in_use = False
        self.last_failed = time.time()

    def use(self) -> Any:
        """The channel. Raises ValueError after a recent failure."""
        if self.is_failed():
            raise ValueError("Trying to use a failed node")
        self.in_use = True
        self.last_failed = 0
        return self.channel

    def is_failed(self) -> bool:
        """Whether it has failed within `time_retry` seconds."""
        return time.time() - self.last_failed < self.time_retry

    def __str__(self) -> str:
        return f"Endpoint({self.protocol}://{self.netloc})"

    def _mkchannel(self, opts: Any) -> BlockingChannel:
        options: Iterable[tuple[str, Any]] = opts.items() if hasattr(opts, "items") else opts or ()
        return BlockingChannel(self.netloc, tls=self.credentials if self.secure else None, options=options)


class EtcdTokenCallCredentials:
    """Adds a token to the metadata of calls; the interface of grpc.AuthMetadataPlugin."""

    def __init__(self, access_token: str) -> None:
        self._access_token = access_token

    def __call__(self, context: Any, callback: Callable[[Any, Any], object]) -> None:
        callback((("token", self._access_token),), None)


def secure_credentials(ca_cert: Any, cert_key: Any = None, cert_cert: Any = None) -> ssl.SSLContext:
    """A TLS context from paths of PEM files. Raises OSError for a file that cannot be read, ValueError for its contents."""
    for path in filter(None, (ca_cert, cert_key, cert_cert)):
        with open(path, "rb"):
            pass
    try:
        return TLSFiles(cacert=str(ca_cert), cert=str(cert_cert or ""), key=str(cert_key or "")).context()
    except ConfigError as error:
        raise ValueError(str(error)) from error
