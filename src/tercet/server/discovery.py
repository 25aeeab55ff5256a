"""Discovery of a new cluster's members at the first start of one of them, instead of --initial-cluster.

- By DNS (--discovery-srv): the records `_etcd-server-ssl._tcp` (https) and `_etcd-server._tcp` (http) name the members' peer
  addresses. The record that resolves to this member's advertised address gets its name, the others 0, 1, 2.
- By another cluster (--discovery-endpoints, --discovery-token): each member registers itself under the token and waits until as
  many have as the token's size. Of more, the first to register form the cluster.

Few members start this way: the client that both need is loaded only then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tercet.config.initial_cluster import Resolve
from tercet.config.server_config import ServerConfig
from tercet.errors import ConfigError

if TYPE_CHECKING:
    from dns.resolver import Resolver


async def discover(config: ServerConfig, resolve: Resolve, resolver: Resolver | None = None) -> ServerConfig:
    """The configuration with --initial-cluster, and with a discovery token as --initial-cluster-token, filled in.

    Unchanged without discovery flags. Raises ConfigError. resolver: None for the system's.
    """
    if config.discovery_endpoints:
        if config.initial_cluster_state == "existing":
            raise ConfigError("discovery URL should not be set when joining existing initial cluster")
        from tercet.server.discovery_token import discover_by_token

        found = await discover_by_token(config)
        return config._replace(initial_cluster=found, initial_cluster_token=config.discovery_token)
    if config.discovery_srv:
        from tercet.server.discovery_dns import discover_by_dns

        return config._replace(initial_cluster=await discover_by_dns(config, resolve, resolver))
    return config


def peer_server_name(config: ServerConfig) -> str:
    """The name that the peers' certificates must have, of the configuration that `discover` has returned; "" for their hosts.

    Members found by DNS have certificates of the domain, unless the operator names the authority. As with etcd, that holds for
    the process that has discovered the cluster; one that restarts expects the hosts.
    """
    found_by_dns = config.discovery_srv and not config.discovery_endpoints
    is_secure = "https://" in config.initial_cluster and not config.peer_trusted_ca_file
    return config.discovery_srv if found_by_dns and is_secure else ""
