"""TLS over asyncio transports, by ssl.MemoryBIO: handshake limits, alerts that are sent, and reasons of rejected handshakes."""

from tercet.tls.engine import TlsEngine
from tercet.tls.protocol import HANDSHAKE_SECONDS, TlsProtocol
from tercet.tls.reasons import NOT_TLS, rejection_reason

__all__ = ["HANDSHAKE_SECONDS", "NOT_TLS", "TlsEngine", "TlsProtocol", "rejection_reason"]
