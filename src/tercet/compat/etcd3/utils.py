"""Helpers that programs import from `etcd3.utils`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tercet.compat.requests import lease_to_id
from tercet.compat.transactions import prefix_range_end, to_bytes

__all__ = ["increment_last_byte", "lease_to_id", "prefix_range_end", "response_to_event_iterator", "to_bytes"]


def increment_last_byte(byte_string: bytes) -> bytes:
    """The name of 0.12. Raises ValueError for a last byte of 0xff."""
    return byte_string[:-1] + bytes([byte_string[-1] + 1])


def response_to_event_iterator(response_iterator: Iterable[Any]) -> Iterator[Any]:
    """The events of all responses."""
    for response in response_iterator:
        yield from response.events
