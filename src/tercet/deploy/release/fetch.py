"""Downloads, verified by SHA-256.

The digest is in the cluster file, or in a SHA256SUMS beside the file, as etcd publishes it. SHA256SUMS is accepted over https
only: over http an attacker could change both files, and the program runs as a service on the hosts.

Blocking: `artifacts.prepare` runs it in a thread. Proxies are taken from the environment (http_proxy, https_proxy, no_proxy).
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
    """Called with the progress; may raise to cancel the download."""

    def __call__(self, done: int, total: int, /) -> None: ...


def is_url(source: str) -> bool:
    """Whether a source is a URL; otherwise it is a path."""
    return source.startswith(("http://", "https://"))


def file_name(url: str) -> str:
    """The last component of a URL's path."""
    return unquote(urlsplit(url).path.rsplit("/", 1)[-1])


def published_sha256(url: str) -> str:
    """The digest from SHA256SUMS beside the file. Raises ConfigError if there is none over https."""
    remedy = "set engine.sha256 to the digest from the publisher"
    if not url.startswith("https://"):
        raise ConfigError(f"{url}: a download over http cannot be verified: {remedy}")
    sums = url.rsplit("/", 1)[0] + "/SHA256SUMS"
    lines: list[bytes] = []
    try:
        _download(sums, lines.append, lambda _done, _total: None, _SUMS_BYTES_MAX)
    except ConfigError as error:
        raise ConfigError(f"{error}; {remedy}") from error
    for line in b"".join(lines).decode(errors="replace").splitlines():
        if (match := _LINE.fullmatch(line)) and match[2].rsplit("/", 1)[-1] == file_name(url):
            return match[1].lower()
    raise ConfigError(f"{sums}: no entry for {file_name(url)}: {remedy}")


def fetch(url: str, sha256: str, cache: Cache, watcher: Watcher) -> Path:
    """Download a file into the cache. Raises ConfigError if it is unavailable, too large, or has another digest."""

    def write(file: BinaryIO) -> None:
        _download(url, file.write, watcher, BYTES_MAX)

    path, got = cache.add(write)
    if got != sha256:
        raise ConfigError(f"{url}: SHA-256 mismatch: got {got}, expected {sha256}; nothing was copied")
    return path


def _download(url: str, write: Callable[[bytes], object], watcher: Watcher, bytes_max: int) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "tercet", "Accept-Encoding": "identity"})
    opener = urllib.request.build_opener(_HttpsOnlyRedirects)
    try:
        with opener.open(request, timeout=_QUIET_SECONDS_MAX) as response:
            total = int(response.headers.get("Content-Length") or 0)
            done = 0
            while chunk := response.read1(
                _CHUNK_BYTES
            ):  # available bytes only, so that a slow server does not delay cancellation
                done += len(chunk)
                if max(done, total) > bytes_max:
                    raise ConfigError(f"{url}: larger than {bytes_max >> 20} MiB, not a release")
                write(chunk)
                watcher(done, total)
            if done < total:
                raise ConfigError(f"{url}: download aborted after {done} of {total} bytes: try again")
    except urllib.error.HTTPError as error:
        raise ConfigError(f"{url}: HTTP {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise ConfigError(f"{url}: download failed: {reason}") from error


class _HttpsOnlyRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, except from https to http."""

    def redirect_request(  # type: ignore[no-untyped-def]  # the base class is untyped
        self, req, fp, code, msg, headers, newurl
    ) -> urllib.request.Request | None:
        if req.full_url.startswith("https://") and not newurl.startswith("https://"):
            raise ConfigError(f"{req.full_url}: redirects to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
