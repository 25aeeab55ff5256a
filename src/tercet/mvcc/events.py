"""One change of one key, as watchers see it."""

from __future__ import annotations

from typing import NamedTuple


class Event(NamedTuple):
    """A put or a delete. `kv` is the encoded KeyValue of the watch event; of a delete, key and mod_revision alone."""

    revision: int
    sub: int
    key: bytes
    kv: bytes
    is_delete: bool
