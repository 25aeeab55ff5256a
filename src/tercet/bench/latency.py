"""Results of one run: number of requests, latencies, errors, and the processor time of the generator."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass

PERCENTILES = (50.0, 90.0, 99.0, 99.9)


@dataclass(frozen=True)
class Measurement:
    """latencies: seconds, ascending, of answered requests. errors: count of each text. cpu_seconds: of the generator."""

    seconds: float
    latencies: array[float]
    errors: Mapping[str, int]
    cpu_seconds: float

    @property
    def requests(self) -> int:
        return len(self.latencies)

    @property
    def failed(self) -> int:
        return sum(self.errors.values())

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds if self.seconds > 0 else 0.0

    @property
    def mean(self) -> float:
        return sum(self.latencies) / self.requests if self.requests else 0.0

    def percentile(self, percent: float) -> float:
        """The smallest latency that `percent` of the requests did not exceed (nearest rank); 0.0 without requests."""
        if not self.latencies:
            return 0.0
        rank = -(-self.requests * percent // 100)  # rounded up
        return self.latencies[min(max(int(rank), 1), self.requests) - 1]

    @property
    def cpu_per_request(self) -> float:
        """Seconds of the generator's CPU for one request; which servers on the same host lack."""
        return self.cpu_seconds / self.requests if self.requests else 0.0

    def as_json(self) -> dict[str, object]:
        """Latencies in seconds."""
        latency = {"mean": self.mean, **{f"p{percent:g}": self.percentile(percent) for percent in PERCENTILES}}
        latency["max"] = self.percentile(100)
        return {
            "requests": self.requests,
            "errors": dict(self.errors),
            "seconds": round(self.seconds, 6),
            "requests_per_second": round(self.per_second, 1),
            "latency_seconds": {name: round(value, 6) for name, value in latency.items()},
            "generator_cpu_seconds_per_request": round(self.cpu_per_request, 9),
        }

    def as_text(self) -> str:
        """Latencies in milliseconds."""
        tail = "  ".join(f"p{percent:g} {milliseconds(self.percentile(percent))}" for percent in PERCENTILES)
        lines = [
            f"{self.requests} requests in {self.seconds:.2f} s: {self.per_second:.0f} per second",
            f"latency in ms: mean {milliseconds(self.mean)}  {tail}  max {milliseconds(self.percentile(100))}",
            f"the generator used {self.cpu_per_request * 1e6:.1f} µs of CPU per request",
        ]
        lines += [f"failed: {count} x {text}" for text, count in sorted(self.errors.items())]
        return "\n".join(lines)


def milliseconds(seconds: float) -> str:
    value = seconds * 1e3
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"
