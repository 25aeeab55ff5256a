"""A member's metrics over HTTP, parsed; and the clock that its answer shows."""

from __future__ import annotations

import asyncio
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl

_SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Scrape:
    """The samples of one request. clock_skew_seconds: the member's clock minus ours, to about a second; None: not sent."""

    def __init__(self, text: str, clock_skew_seconds: float | None) -> None:
        self.clock_skew_seconds = clock_skew_seconds
        self.taken_at = time.monotonic()
        self._samples: dict[str, list[tuple[Mapping[str, str], float]]] = {}
        for line in text.splitlines():
            match = None if line.startswith("#") else _SAMPLE.fullmatch(line)
            if match:
                labels = dict(_LABEL.findall(match[2] or ""))
                self._samples.setdefault(match[1], []).append((labels, float(match[3])))

    def __contains__(self, name: str) -> bool:
        return name in self._samples

    def each(self, name: str) -> Iterator[tuple[Mapping[str, str], float]]:
        yield from self._samples.get(name, ())

    def value(self, name: str) -> float:
        """The sum over all labels; 0 without samples."""
        return sum(value for _, value in self.each(name))

    def by(self, name: str, label: str) -> dict[str, float]:
        """Sums by one label."""
        found: dict[str, float] = {}
        for labels, value in self.each(name):
            found[labels.get(label, "")] = found.get(labels.get(label, ""), 0.0) + value
        return found


def quantile(histogram: str, before: Scrape | None, after: Scrape, share: float = 0.99) -> float | None:
    """Of the observations between two scrapes, or since the member's start: the upper bound of the bucket. None without any."""
    counts = {float(bound): count for bound, count in after.by(f"{histogram}_bucket", "le").items()}
    if before is not None:
        for bound, count in before.by(f"{histogram}_bucket", "le").items():
            counts[float(bound)] = counts.get(float(bound), 0.0) - count
    total = max(counts.values(), default=0.0)
    if total <= 0:
        return None
    return min(bound for bound, count in counts.items() if count >= share * total)


async def scrape(endpoint: str, tls: ssl.SSLContext | None, *, timeout: float) -> Scrape:
    """GET /metrics. endpoint: as in --endpoints. Raises OSError, ValueError."""
    return await asyncio.to_thread(_scrape, metrics_url(endpoint, uses_tls=tls is not None), tls, timeout)


def metrics_url(endpoint: str, *, uses_tls: bool) -> str:
    """Raises ValueError for a Unix socket."""
    if endpoint.startswith(("unix:", "unixs:")):
        raise ValueError("metrics are not read from a Unix socket")
    base = endpoint if "://" in endpoint else f"{'https' if uses_tls else 'http'}://{endpoint}"
    return f"{base.rstrip('/')}/metrics"


def _scrape(url: str, tls: ssl.SSLContext | None, timeout: float) -> Scrape:
    began = time.time()
    try:
        with urllib.request.urlopen(url, timeout=timeout, context=tls) as answer:
            text = answer.read().decode("utf-8", "replace")
            date = answer.headers.get("Date")
    except urllib.error.HTTPError as error:
        raise OSError(f"{url} answers with HTTP status {error.code}") from error
    except urllib.error.URLError as error:
        reason = error.reason
        raise OSError((reason.strerror if isinstance(reason, OSError) else "") or str(reason)) from error
    middle = (began + time.time()) / 2
    skew = None
    if date:
        # The header has whole seconds, rounded down: on average half a second is lost.
        skew = parsedate_to_datetime(date).timestamp() + 0.5 - middle
    return Scrape(text, skew)
