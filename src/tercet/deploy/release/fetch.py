"""A file from the web, believed only by its SHA-256.

The digest is in the cluster file, or in a SHA256SUMS beside the file, as releases of etcd have it. The latter is taken over
https only: over http, whoever could change the file could change its digest as well, and the file is run as root.

Blocking: `artifacts.prepare` runs it in a thread. Proxies are those of the environment (http_proxy, https_proxy, no_proxy).
"""

from __future__ import annotations

import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from tercet.deploy.release.cache import Cache
from tercet.errors import ConfigError

BYTES_MAX = 512 << 20
_SUMS_BYTES_MAX = 1 << 20
_CHUNK_BYTES = 1 << 18
_QUIET_SECONDS_MAX = 15
_LINE = re.compile(r"([0-9a-fA-F]{64})\s+[*]?(\S+)\s*")


class Watcher(Protocol):
    """Whoever waits for it: hears how far it is, and may raise from here to give up."""

    def __call__(self, done: int, total: int, /) -> None: ...


def is_address(source: str) -> bool:
    """Whether a source is to be fetched; otherwise it is a path."""
    return source.startswith(("http://", "https://"))


def file_name(address: str) -> str:
    """The last part of an address's path."""
    return unquote(urlsplit(address).path.rsplit("/", 1)[-1])


def published_sha256(address: str) -> str:
    """The digest that SHA256SUMS beside the file gives for it. Raises ConfigError where there is none to be believed."""
    remedy = "set engine.sha256 in the cluster file to the digest its publisher gives"
    if not address.startswith("https://"):
        raise ConfigError(f"{address}: nothing shows that a file fetched over http is the right one: {remedy}")
    sums = address.rsplit("/", 1)[0] + "/SHA256SUMS"
    lines: list[bytes] = []
    try:
        _download(sums, lines.append, lambda _done, _total: None, _SUMS_BYTES_MAX)
    except ConfigError as error:
        raise ConfigError(f"{error}; without it, {remedy}") from error
    for line in b"".join(lines).decode(errors="replace").splitlines():
        if (match := _LINE.fullmatch(line)) and match[2].rsplit("/", 1)[-1] == file_name(address):
            return match[1].lower()
    raise ConfigError(f"{sums}: has no line for {file_name(address)}: {remedy}")


def fetch(address: str, sha256: str, cache: Cache, watcher: Watcher) -> Path:
    """The file, from now on in the cache. Raises ConfigError: cannot be had, too large, or another content than `sha256`."""

    def write(file: BinaryIO) -> None:
        _download(address, file.write, watcher, BYTES_MAX)

    path, got = cache.add(write)
    if got != sha256:
        raise ConfigError(f"{address}: its sha256 is {got}, expected {sha256}: not the file that was meant; nothing was copied")
    return path


def _download(address: str, write: Callable[[bytes], object], watcher: Watcher, bytes_max: int) -> None:
    request = urllib.request.Request(address, headers={"User-Agent": "tercet", "Accept-Encoding": "identity"})
    opener = urllib.request.build_opener(_StaySecure)
    try:
        with opener.open(request, timeout=_QUIET_SECONDS_MAX) as response:
            total = int(response.headers.get("Content-Length") or 0)
            done = 0
            while chunk := response.read1(_CHUNK_BYTES):  # what is there: a slow server must not keep us from giving up
                done += len(chunk)
                if max(done, total) > bytes_max:
                    raise ConfigError(f"{address}: larger than {bytes_max >> 20} MiB: not a release")
                write(chunk)
                watcher(done, total)
            if done < total:
                raise ConfigError(f"{address}: broken off after {done} of {total} bytes: try again")
    except urllib.error.HTTPError as error:
        raise ConfigError(f"{address}: the server answers {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise ConfigError(f"{address}: cannot be fetched: {reason}") from error


class _StaySecure(urllib.request.HTTPRedirectHandler):
    """Follows redirects, except from https to http."""

    def redirect_request(  # type: ignore[no-untyped-def]  # the inherited signature has no types
        self, req, fp, code, msg, headers, newurl
    ) -> urllib.request.Request | None:
        if req.full_url.startswith("https://") and not newurl.startswith("https://"):
            raise ConfigError(f"{req.full_url}: redirects to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
