"""A typed asyncio client for etcd's API, with several endpoints."""

from tercet.client import methods
from tercet.client.cluster_channel import AuthenticationError, ClusterChannel
from tercet.client.connector import Limits
from tercet.client.election import observe
from tercet.client.endpoint import Endpoint, parse_endpoint
from tercet.client.health import Health, check_health
from tercet.client.keepalive import keep_alive, keep_alive_once
from tercet.client.lease_session import LeaseSession
from tercet.client.prefix import prefix_end
from tercet.client.queue import Place
from tercet.client.tls import TLSFiles
from tercet.client.watch import Watch, WatchStream

__all__ = [
    "AuthenticationError",
    "ClusterChannel",
    "Endpoint",
    "Health",
    "LeaseSession",
    "Limits",
    "Place",
    "TLSFiles",
    "Watch",
    "WatchStream",
    "check_health",
    "keep_alive",
    "keep_alive_once",
    "methods",
    "observe",
    "parse_endpoint",
    "prefix_end",
]
