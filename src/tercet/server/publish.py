"""Publishes this member's name and client URLs through the log; the cluster then counts it as started.

Source: etcd server/etcdserver/server.go (publishV3).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Final

from tercet.errors import StatusError, strip_traceback
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


async def publish(replica: Replica, name: str, client_urls: Iterable[str]) -> None:
    """Return once this member's attributes are applied; retries until then or until cancelled."""
    attributes = internal_pb2.MemberAttributes(name=name, client_urls=client_urls)
    request = internal_pb2.ClusterMemberAttrSetRequest(member_ID=replica.member_id, member_attributes=attributes)
    while True:
        try:
            async with asyncio.timeout(_PUBLISH_SECONDS):
                await propose(replica, "cluster_member_attr_set", request)
        except TimeoutError:
            continue
        except StatusError as error:
            shown = fields(local_member_id=hex_id(replica.member_id), error=str(strip_traceback(error)))
            logger.warning("failed to publish local member to cluster through raft", extra=shown)
            await asyncio.sleep(_RETRY_SECONDS)
            continue
        shown = fields(local_member_id=hex_id(replica.member_id), local_member_name=name)
        logger.info("published local member to cluster through raft", extra=shown)
        return
