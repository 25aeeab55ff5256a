"""Member lists in the form of --initial-cluster: n1=https://10.0.0.1:2380,n2=https://10.0.0.2:2380

For import. Lists that a cluster file cannot express (different ports, several URLs per member, mixed TLS) are errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tercet.deploy.cluster.field_types import check_address, check_name
from tercet.deploy.cluster.server_facts import parse_url


@dataclass(frozen=True)
class MemberList:
    """hosts: (name, address) of each member."""

    hosts: tuple[tuple[str, str], ...]
    is_secure: bool
    peer_port: int


def parse_member_list(text: str) -> MemberList:
    """Raises ValueError that names the invalid entry."""
    hosts: list[tuple[str, str]] = []
    kinds: dict[tuple[bool, int], str] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, equals, given = entry.partition("=")
        if not equals:
            raise ValueError(f"{entry!r} is not NAME=URL")
        url = parse_url(given)
        if url.is_unix:
            raise ValueError(f"{given!r} is a Unix socket, which other hosts cannot reach")
        hosts.append((check_name(name), check_address(url.host)))
        kinds.setdefault((url.is_secure, url.port), name)
    if not hosts:
        raise ValueError("has no members")
    if len(kinds) > 1:
        first, second, *_ = kinds.values()
        raise ValueError(f"the URLs of {first} and {second} differ in scheme or port; all members must use the same")
    names, addresses = zip(*hosts, strict=True)
    check_unique(names, "name")
    check_unique(addresses, "address")
    ((is_secure, port),) = kinds
    return MemberList(tuple(hosts), is_secure, port)


def check_unique(values: Sequence[str], what: str) -> None:
    """Raises ValueError for a duplicate."""
    twice = next((value for value in values if values.count(value) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice} is the {what} of two members")
