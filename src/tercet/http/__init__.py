"""HTTP endpoints beside gRPC: health, version, metrics, debugging.

HTTP/1.1 arrives through `HttpProtocol`, HTTP/2 through the gRPC server; both call `Routes.handle`. The state of the member
comes from `Probes`.
"""

from tercet.http.health import HealthCounters, Probes
from tercet.http.routes import Access, Routes, Versions
from tercet.http1.messages import Headers, HttpHandler, Response
from tercet.http1.protocol import HttpLimits, HttpProtocol

__all__ = [
    "Access",
    "Headers",
    "HealthCounters",
    "HttpHandler",
    "HttpLimits",
    "HttpProtocol",
    "Probes",
    "Response",
    "Routes",
    "Versions",
]
