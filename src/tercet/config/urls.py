"""What etcd requires of the URLs that a member listens on and advertises.

Source: etcd server/embed/config.go (checkBindURLs, checkHostURLs).
"""

from __future__ import annotations

from tercet.gotext.host_port import is_ip
from tercet.gotext.urls import Url


def texts(urls: tuple[Url, ...]) -> list[str]:
    return [url.text for url in urls]


def check_bindable(urls: tuple[Url, ...]) -> None:
    """A listener needs an IP address or `localhost`. Raises ValueError with etcd's text."""
    for url in urls:
        if not url.is_unix and url.host != "localhost" and not is_ip(url.host):
            raise ValueError(f"expected IP in URL for binding ({url})")


def check_has_host(urls: tuple[Url, ...]) -> None:
    """What is advertised must name a host. Raises ValueError with etcd's text."""
    for url in urls:
        if not url.is_unix and not url.host:
            raise ValueError(f"unexpected empty host ({url})")
