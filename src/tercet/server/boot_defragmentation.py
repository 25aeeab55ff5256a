"""--bootstrap-defrag-threshold-megabytes: defragments the database at start, if that frees enough.

Source: etcd server/etcdserver/bootstrap.go (maybeDefragBackend).
"""

from __future__ import annotations

import asyncio
import logging

from tercet.errors import StorageFailure
from tercet.log_fields import fields
from tercet.storage import Backend

logger = logging.getLogger(__name__)


async def defragment_at_start(backend: Backend, threshold_megabytes: int) -> None:
    """threshold_megabytes: the least that is worth it; 0: never. Raises StorageFailure."""
    if not threshold_megabytes:
        return
    size, in_use = backend.size(), backend.size_in_use()
    sizes = fields(current_db_size_bytes=size, current_db_size_in_use_bytes=in_use, threshold_bytes=threshold_megabytes << 20)
    if size - in_use < threshold_megabytes << 20:
        logger.info("Skipping defragmentation", extra=sizes)
        return
    logger.info("defragmenting the database", extra=sizes)
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def failed(error: StorageFailure) -> None:
        done.set_exception(error)

    backend.defragment(lambda: done.set_result(None), failed=failed)
    await done
