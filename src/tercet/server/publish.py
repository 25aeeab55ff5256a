"""Publishes this member's name and client URLs through the log; the cluster then counts it as started.

Source: etcd server/etcdserver/server.go (publishV3).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from tercet.errors import StatusError, strip_traceback
from tercet.gotext.duration import format_seconds
from tercet.log_fields import fields
from tercet.proto import internal_pb2
from tercet.replica.membership import hex_id
from tercet.replica.replica import Replica
from tercet.services.awaitables import propose

logger = logging.getLogger(__name__)

# Shorter than a client's request timeout: when the entry reaches a member inside a snapshot, the proposer gets no answer and
# must try again. Publishing twice is harmless.
_PUBLISH_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = 0.1


async def publish(replica: Replica, cluster_id: int, name: str, client_urls: Sequence[str]) -> None:
    """Return once this member's attributes are applied; retries until then or until cancelled."""
    shown: dict[str, object] = {
        "local-member-id": hex_id(replica.member_id),
        "local-member-attributes": f"{{Name:{name} ClientURLs:[{' '.join(client_urls)}]}}",
    }
    limit = format_seconds(_PUBLISH_SECONDS)
    attributes = internal_pb2.MemberAttributes(name=name, client_urls=client_urls)
    request = internal_pb2.ClusterMemberAttrSetRequest(member_ID=replica.member_id, member_attributes=attributes)
    while True:
        try:
            async with asyncio.timeout(_PUBLISH_SECONDS):
                await propose(replica, "cluster_member_attr_set", request)
        except TimeoutError:
            continue
        except StatusError as error:
            failed = fields(shown, publish_timeout=limit, error=str(strip_traceback(error)))
            logger.warning("failed to publish local member to cluster through raft", extra=failed)
            await asyncio.sleep(_RETRY_SECONDS)
            continue
        published = fields(shown, cluster_id=hex_id(cluster_id), publish_timeout=limit)
        logger.info("published local member to cluster through raft", extra=published)
        return
