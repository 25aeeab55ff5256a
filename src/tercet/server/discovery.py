"""Discovery of a new cluster's members at the first start of one of them, instead of --initial-cluster.

- By DNS (--discovery-srv): the records `_etcd-server-ssl._tcp` (https) and `_etcd-server._tcp` (http) name the members' peer
  addresses. The record that resolves to this member's advertised address gets its name, the others 0, 1, 2.
- By another cluster (--discovery-endpoints, --discovery-token): each member registers itself under the token and waits until as
  many have as the token's size. Of more, the first to register form the cluster.

      /_etcd/registry/TOKEN/_config/size           3
      /_etcd/registry/TOKEN/members/e64a5ec5a3e8   n1=http://10.0.0.1:2380

Source: etcd server/embed/config.go (GetDNSClusterNames), client/pkg/srv/srv.go, server/etcdserver/api/v3discovery/discovery.go.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, TypeVar

from tercet.client import ClusterChannel, Limits, TLSFiles, WatchStream, prefix_end
from tercet.client.srv import LookupFailed, lookup_srv, srv_service
from tercet.config.initial_cluster import Resolve, initial_cluster_text, parse_initial_cluster
from tercet.config.server_config import ServerConfig
from tercet.errors import ConfigError, StatusError
from tercet.gotext.host_port import join_host_port
from tercet.gotext.urls import Url
from tercet.log_fields import fields
from tercet.proto import kv_pb2, rpc_pb2
from tercet.replica.identity import member_id
from tercet.replica.membership import hex_id

if TYPE_CHECKING:
    from dns.resolver import Resolver

logger = logging.getLogger(__name__)
_BACKOFF_EXPONENT_MAX: Final = 8
Result = TypeVar("Result")


class DiscoveryError(ConfigError):
    """The discovery service cannot form a cluster with this member."""


async def discover(config: ServerConfig, resolve: Resolve, resolver: Resolver | None = None) -> ServerConfig:
    """The configuration with --initial-cluster, and with a discovery token as --initial-cluster-token, filled in.

    Unchanged without discovery flags. Raises ConfigError. resolver: None for the system's.
    """
    if config.discovery_endpoints:
        if config.initial_cluster_state == "existing":
            raise ConfigError("discovery URL should not be set when joining existing initial cluster")
        found = await _discover_by_token(config)
        return replace(config, initial_cluster=found, initial_cluster_token=config.discovery_token)
    if config.discovery_srv:
        return replace(config, initial_cluster=await _discover_by_dns(config, resolve, resolver))
    return config


def peer_server_name(config: ServerConfig) -> str:
    """The name that the peers' certificates must have, of the configuration that `discover` has returned; "" for their hosts.

    Members found by DNS have certificates of the domain, unless the operator names the authority. As with etcd, that holds for
    the process that has discovered the cluster; one that restarts expects the hosts.
    """
    found_by_dns = config.discovery_srv and not config.discovery_endpoints
    is_secure = "https://" in config.initial_cluster and not config.peer_trusted_ca_file
    return config.discovery_srv if found_by_dns and is_secure else ""


# --- DNS


async def _discover_by_dns(config: ServerConfig, resolve: Resolve, resolver: Resolver | None) -> str:
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


# --- a token


async def _discover_by_token(config: ServerConfig) -> str:
    own: Mapping[str, tuple[Url, ...]] = {config.name: config.initial_advertise_peer_urls}
    own_id = hex_id(member_id([url.text for url in config.initial_advertise_peer_urls], config.discovery_token))
    logger.info("Bootstrapping cluster using v3 discovery.")
    try:
        async with _client(config) as client:
            registry = Registry(client, config.discovery_token, timeout_seconds=config.discovery_request_timeout_seconds)
            found = await registry.join(own_id, initial_cluster_text(own))
            parse_initial_cluster(found)
    except ConfigError as error:
        logger.warning(
            "failed to bootstrap; discovery token was already used",
            extra=fields(
                discovery_token=config.discovery_token, discovery_endpoints=config.discovery_endpoints, error=str(error)
            ),
        )
        logger.warning("do not reuse discovery token; generate a new one to bootstrap a cluster")
        raise DiscoveryError(f"failed to join discovery cluster ({error})") from error
    logger.info("discovery joined cluster successfully", extra=fields(cluster=found))
    return found


def _client(config: ServerConfig) -> ClusterChannel:
    """A client of the discovery cluster. Raises ConfigError."""
    files = TLSFiles(
        cacert=config.discovery_cacert,
        cert=config.discovery_cert,
        key=config.discovery_key,
        insecure_skip_verify=config.discovery_insecure_skip_tls_verify,
    )
    limits = Limits(
        dial_timeout_seconds=config.discovery_dial_timeout_seconds,
        keepalive_seconds=config.discovery_keepalive_time_seconds,
        keepalive_timeout_seconds=config.discovery_keepalive_timeout_seconds,
    )
    return ClusterChannel(
        config.discovery_endpoints,
        tls=None if files == TLSFiles() and config.discovery_insecure_transport else files,
        user=config.discovery_user,
        password=config.discovery_password,
        limits=limits,
    )


@dataclass(slots=True)
class Registered:
    """The members that have registered under a token, by key; the order of registration decides who belongs to the cluster."""

    prefix: str
    members: dict[str, tuple[int, str]] = field(default_factory=dict)
    """(create revision, `name=URL,name=URL`) by key."""

    def add(self, kv: kv_pb2.KeyValue) -> None:
        """Entries that are no registration, and later ones of the same key, are ignored."""
        key, value = kv.key.decode("utf-8", "replace").strip(), kv.value.decode("utf-8", "replace").strip()
        if "=" not in value or key in self.members:
            text = "found duplicate peer" if key in self.members else "invalid peer info returned"
            logger.warning(f"{text} from discovery service", extra=fields(memberKey=key, memberInfo=value))
            return
        logger.info("found peer from discovery service", extra=fields(memberKey=key, memberInfo=value))
        self.members[key] = (kv.create_revision, value)

    def first(self, size: int) -> list[str]:
        """Keys of the first `size` members."""
        return sorted(self.members, key=lambda key: self.members[key])[:size]

    def initial_cluster(self, size: int) -> str:
        return ",".join(self.members[key][1] for key in self.first(size))


class Registry:
    """A token's keys in the discovery cluster. timeout_seconds: of one request; failed ones are repeated for ever."""

    def __init__(
        self,
        client: ClusterChannel,
        token: str,
        *,
        timeout_seconds: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._timeout_seconds = timeout_seconds
        self._sleep = sleep
        self._size_key = f"/_etcd/registry/{token}/_config/size"
        self._members_key = f"/_etcd/registry/{token}/members"

    async def join(self, id: str, urls: str) -> str:
        """Register, and wait until the cluster is complete. Returns its --initial-cluster. Raises DiscoveryError.

        id: of this member, hexadecimal. urls: `name=URL,name=URL`.
        """
        own_key = f"{self._members_key}/{id}"
        await self._check(own_key)
        put = rpc_pb2.PutRequest(key=own_key.encode(), value=urls.encode())
        await self._repeat("register member itself", lambda: self._client.kv.put(put, timeout=self._timeout_seconds))
        logger.info("register member itself successfully", extra=fields(memberKey=own_key, memberInfo=urls))
        registered, size, revision = await self._check(own_key)
        if len(registered.members) < size:
            await self._wait(registered, size, revision)
        return registered.initial_cluster(size)

    async def _check(self, own_key: str) -> tuple[Registered, int, int]:
        """(registered members, size of the cluster, revision). Raises DiscoveryError if others fill the cluster."""
        size = await self._repeat("cluster status check", self._read_size)
        registered, revision = await self._repeat("cluster status check", self._read_members)
        first = registered.first(size)
        if len(first) == size and own_key not in first:
            raise DiscoveryError("discovery: cluster is full")
        return registered, size, revision

    async def _read_size(self) -> int:
        request = rpc_pb2.RangeRequest(key=self._size_key.encode())
        response = await self._client.kv.range(request, timeout=self._timeout_seconds)
        if not response.kvs:
            raise DiscoveryError("discovery: size key not found")
        text = response.kvs[0].value
        if not text.isdigit() or int(text) <= 0:
            raise DiscoveryError("discovery: size key is bad")
        return int(text)

    async def _read_members(self) -> tuple[Registered, int]:
        key = self._members_key.encode()
        request = rpc_pb2.RangeRequest(key=key, range_end=prefix_end(key))
        response = await self._client.kv.range(request, timeout=self._timeout_seconds)
        registered = Registered(self._members_key)
        for kv in response.kvs:
            registered.add(kv)
        return registered, response.header.revision

    async def _wait(self, registered: Registered, size: int, revision: int) -> None:
        key = self._members_key.encode()
        logger.info(
            "waiting for peers from discovery service", extra=fields(clusterSize=size, found_peers=len(registered.members))
        )
        request = rpc_pb2.WatchCreateRequest(key=key, range_end=prefix_end(key), start_revision=revision + 1)
        async with WatchStream(self._client) as stream:
            async for response in await stream.watch(request):
                if response.canceled:
                    raise DiscoveryError(f"discovery: the watch for peers was cancelled: {response.cancel_reason}")
                for event in response.events:
                    registered.add(event.kv)
                if len(registered.members) >= size:
                    break
        logger.info(
            "found all needed peers from discovery service", extra=fields(clusterSize=size, found_peers=len(registered.members))
        )

    async def _repeat(self, step: str, attempt: Callable[[], Awaitable[Result]]) -> Result:
        """Repeat what fails because the discovery cluster does not answer, with a growing pause."""
        retries = 0
        while True:
            try:
                return await attempt()
            except StatusError as error:
                retries += 1
                backoff = float(1 << min(retries, _BACKOFF_EXPONENT_MAX))
                logger.warning(
                    "retry connecting to discovery service",
                    extra=fields(reason=step, backoff=f"{backoff:.0f}s", error=error.message),
                )
                await self._sleep(backoff)
