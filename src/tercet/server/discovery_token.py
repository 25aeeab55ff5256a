"""Discovery by a token: members register themselves in another cluster, under keys of the token.

    /_etcd/registry/TOKEN/_config/size           3
    /_etcd/registry/TOKEN/members/e64a5ec5a3e8   n1=http://10.0.0.1:2380

Source: etcd server/etcdserver/api/v3discovery/discovery.go.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from tercet.client import ClusterChannel, Limits, TLSFiles, WatchStream, prefix_end
from tercet.config.initial_cluster import initial_cluster_text, parse_initial_cluster
from tercet.config.server_config import ServerConfig
from tercet.errors import ConfigError, StatusError
from tercet.gotext.urls import Url
from tercet.log_fields import fields
from tercet.proto import kv_pb2, rpc_pb2
from tercet.replica.identity import member_id
from tercet.replica.membership import hex_id

logger = logging.getLogger(__name__)
_BACKOFF_EXPONENT_MAX: Final = 8
Result = TypeVar("Result")


class DiscoveryError(ConfigError):
    """The discovery service cannot form a cluster with this member."""


async def discover_by_token(config: ServerConfig) -> str:
    """--initial-cluster from the members registered under --discovery-token. Raises DiscoveryError."""
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
        if not text.isdigit() or len(text) > 19 or int(text) <= 0:
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
