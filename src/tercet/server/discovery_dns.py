"""Discovery by DNS: the SRV records of a domain name the members' peer addresses.

Source: etcd server/embed/config.go (GetDNSClusterNames), client/pkg/srv/srv.go.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from tercet.client.srv import LookupFailed, lookup_srv, srv_service
from tercet.config.initial_cluster import Resolve, parse_initial_cluster
from tercet.config.server_config import ServerConfig
from tercet.errors import ConfigError
from tercet.gotext.host_port import join_host_port
from tercet.log_fields import fields

if TYPE_CHECKING:
    from dns.resolver import Resolver

logger = logging.getLogger(__name__)


async def discover_by_dns(config: ServerConfig, resolve: Resolve, resolver: Resolver | None) -> str:
    """--initial-cluster from the records of --discovery-srv. Raises ConfigError. resolver: None for the system's."""
    members: list[str] = []
    failures: list[str] = []
    for scheme in ("https", "http"):
        service = srv_service("etcd-server", config.discovery_srv_name, secure=scheme == "https")
        error, found = "", list[str]()
        try:
            found = await _members_of(service, scheme, config, resolve, resolver)
        except LookupFailed as failed:
            error = f"error querying DNS SRV records for _{service} {failed}"
            failures.append(error)
        logger.info(
            f"get cluster for {service} SRV",
            extra=fields(discovery_srv=config.discovery_srv, server_name=config.name, found_cluster=found, error=error),
        )
        members += found
    if failures:
        logger.warning("failed to resolve during SRV discovery", extra=fields(error="\n".join(failures)))
    if not members:
        raise ConfigError(f"error setting up initial cluster: {' '.join(failures) or 'the SRV records name no member'}")
    for member in members:
        logger.info("got bootstrap from DNS for etcd-server", extra=fields(node=member))
    if config.name not in parse_initial_cluster(",".join(members)):
        raise ConfigError(f'error setting up initial cluster: cannot find local etcd member "{config.name}" in SRV records')
    return ",".join(members)


async def _members_of(
    service: str, scheme: str, config: ServerConfig, resolve: Resolve, resolver: Resolver | None
) -> list[str]:
    """`name=URL` of each record. Raises LookupFailed if none is usable."""
    own = {await _address(url.host, url.port, resolve): url for url in config.initial_advertise_peer_urls}
    members: list[str] = []
    reason = ""
    unnamed = 0
    loop = asyncio.get_running_loop()
    for target in await loop.run_in_executor(None, lookup_srv, service, config.discovery_srv, resolver):
        try:
            url = own.get(await _address(target.host, target.port, resolve))
        except LookupFailed as failed:
            reason = str(failed)
            continue
        shown = f"{scheme}://{join_host_port(target.host, target.port)}"
        if url is None:
            name, unnamed = str(unnamed), unnamed + 1
        elif url.scheme == scheme:
            name = config.name
        else:
            reason = f"bootstrap at {shown} from DNS for {service} has scheme mismatch with expected peer {url}"
            continue
        members.append(f"{name}={shown}")
    if not members:
        raise LookupFailed(reason)
    return members


async def _address(host: str, port: int, resolve: Resolve) -> tuple[str, int]:
    try:
        return await asyncio.get_running_loop().run_in_executor(None, resolve, host), port
    except OSError as error:
        raise LookupFailed(f"lookup {host}: no such host") from error
