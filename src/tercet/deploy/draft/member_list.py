"""Lists of members as etcd's flag has them: n1=https://10.0.0.1:2380,n2=https://10.0.0.2:2380

They are read for import: what one cluster file cannot say (different ports, two URLs for a member, TLS for some) is refused.
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
    """Raises ValueError with a sentence that says which entry is wrong."""
    hosts: list[tuple[str, str]] = []
    kinds: dict[tuple[bool, int], str] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, equals, given = entry.partition("=")
        if not equals:
            raise ValueError(f"{entry!r} is not NAME=URL")
        url = parse_url(given)
        if url.is_unix:
            raise ValueError(f"{given!r} is a socket, which other hosts do not reach")
        hosts.append((check_name(name), check_address(url.host)))
        kinds.setdefault((url.is_secure, url.port), name)
    if not hosts:
        raise ValueError("names no member")
    if len(kinds) > 1:
        first, second, *_ = kinds.values()
        raise ValueError(f"the URLs of {first} and {second} differ in more than the host; all members have one scheme and port")
    names, addresses = zip(*hosts, strict=True)
    check_unique(names, "name")
    check_unique(addresses, "address")
    ((is_secure, port),) = kinds
    return MemberList(tuple(hosts), is_secure, port)


def check_unique(values: Sequence[str], what: str) -> None:
    """Raises ValueError for one that occurs twice."""
    twice = next((value for value in values if values.count(value) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice} is the {what} of two members")
