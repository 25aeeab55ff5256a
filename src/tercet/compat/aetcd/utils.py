"""Helpers that programs import from `aetcd.utils`."""

from tercet.compat.requests import lease_to_id
from tercet.compat.transactions import prefix_range_end, to_bytes

__all__ = ["lease_to_id", "prefix_range_end", "to_bytes"]
