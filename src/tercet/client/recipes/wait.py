"""Waiting for a key to be deleted or put."""

from __future__ import annotations

from typing import Literal

from tercet.client.core_calls import CoreCalls
from tercet.client.errors import Compacted
from tercet.client.key_space import Text


async def wait_event(client: CoreCalls, key: Text, *, kind: Literal["put", "delete"], since: int, prefix: bool = False) -> None:
    """Return at the first such event from revision `since` on, or when it may have been compacted: the caller reads again."""
    watch = client.watch(key, prefix=prefix, since=since, only=kind)
    try:
        await anext(watch)
    except Compacted:
        return
    finally:
        watch.close()
