"""Hosts with the same steps or findings are shown once: a plan for three identical hosts is read once, not three times.

Equal means equal apart from the names and addresses of the hosts, which units and certificates contain, the fingerprints of
their certificates, and the moment of their backups.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

ItemT = TypeVar("ItemT")
_OWN = (r"(?<=SHA-256 )[0-9A-F:]+", r"(?<=--turn=)\d+")


def folded(
    items: Mapping[str, Collection[ItemT]], text_of: Callable[[ItemT], tuple[str, ...]], names: Collection[str]
) -> list[tuple[str, list[str]]]:
    """(host, hosts with the same items), in order. text_of: what is compared. names: names and addresses of all hosts."""
    anyone = re.compile("|".join([*_OWN, *(re.escape(name) for name in sorted(names, key=len, reverse=True))]))
    groups: dict[tuple[tuple[str, ...], ...], list[str]] = {}
    for host, its in items.items():
        groups.setdefault(tuple(tuple(anyone.sub("*", text) for text in text_of(item)) for item in its), []).append(host)
    return [(first, others) for first, *others in groups.values()]
