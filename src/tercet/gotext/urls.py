"""URLs of listeners and members as etcd accepts them in flags, requests and records, with Go's and etcd's error texts.

    http://10.0.0.1:2379    https://host:2380    unix://name:1    unixs:/run/etcd.sock

A URL has a scheme and an address, and no path on TCP. Its text is kept as given but for the scheme, which Go lowers: etcd
compares URLs, hashes them into member IDs and prints them as text.

Source: etcd client/pkg/types/urls.go (NewURLs), net/url.Parse.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from tercet.gotext.host_port import join_host_port, split_host_port

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_BAD_IN_HOST = re.compile(r'[\x00-\x20"<>\\^`{|}\x7f]')


class Url(NamedTuple):
    """One URL; ordered by its text, as etcd orders them."""

    text: str
    scheme: str
    address: str
    """`host:port` on TCP, the socket's path for unix."""

    def __str__(self) -> str:
        return self.text

    @property
    def is_secure(self) -> bool:
        return self.scheme in ("https", "unixs")

    @property
    def is_unix(self) -> bool:
        return self.scheme in ("unix", "unixs")

    @property
    def host(self) -> str:
        """The host name or address without port and brackets; the whole path for unix."""
        return self.address if self.is_unix else split_host_port(self.address)[0]

    @property
    def port(self) -> int:
        """The port; 0 for unix."""
        return 0 if self.is_unix else int(split_host_port(self.address)[1] or 0)

    def with_host(self, host: str, port: int) -> Url:
        address = join_host_port(host, port)
        return Url(f"{self.scheme}://{address}", self.scheme, address)


def parse_url(given: str) -> Url:
    """Raises ValueError with etcd's text."""
    text = given.strip()
    scheme, rest = _split_scheme(text)
    address, path = _split_authority(text, rest)
    if scheme in ("unix", "unixs"):
        return Url(f"{scheme}:{rest}", scheme, address + path)
    if scheme not in ("http", "https"):
        raise ValueError(f"URL scheme must be http, https, unix, or unixs: {text}")
    try:
        split_host_port(address)
    except ValueError as error:
        raise ValueError(f'URL address does not have the form "host:port": {text}') from error
    if path:
        raise ValueError(f"URL must not contain a path: {text}")
    return Url(f"{scheme}:{rest}", scheme, address)


def _split_scheme(text: str) -> tuple[str, str]:
    found = _SCHEME.match(text)
    if found:
        return found[1].lower(), text[found.end() :]
    if text.startswith(":"):
        raise ValueError(f'parse "{text}": missing protocol scheme')
    if ":" in text.split("/", 1)[0]:
        raise ValueError(f'parse "{text}": first path segment in URL cannot contain colon')
    return "", text


def _split_authority(text: str, rest: str) -> tuple[str, str]:
    """(host:port, path) of what follows the scheme; query and fragment mean nothing in an address and are left out."""
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    if not rest.startswith("//"):
        return "", rest
    authority, slash, path = rest[2:].partition("/")
    host = authority.rpartition("@")[2]
    bad = _BAD_IN_HOST.search(host)
    if bad:
        raise ValueError(f'parse "{text}": invalid character "{bad[0]}" in host name')
    if host.startswith("[") and "]" not in host:
        raise ValueError(f"parse \"{text}\": missing ']' in host")
    port = host.rpartition("]")[2] if host.startswith("[") else ":" + host.rpartition(":")[2] if ":" in host else ""
    if port and not re.fullmatch(r":[0-9]*", port):
        raise ValueError(f'parse "{text}": invalid port "{port}" after host')
    return host, slash + path


def parse_urls(text: str) -> tuple[Url, ...]:
    """A comma-separated list: each URL once, sorted by its text. Raises ValueError with etcd's text."""
    return tuple(sorted({parse_url(part) for part in text.split(",")}))
