"""A typed asyncio client for etcd's API, with several endpoints."""

from tercet.client.client import AuthenticationError, Client
from tercet.client.connector import Limits
from tercet.client.endpoint import Endpoint, parse_endpoint
from tercet.client.health import Health, check_health
from tercet.client.tls import TLSFiles

__all__ = ["AuthenticationError", "Client", "Endpoint", "Health", "Limits", "TLSFiles", "check_health", "parse_endpoint"]
