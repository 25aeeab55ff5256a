"""Checks proposals that another member has forwarded, before the leader appends them.

A committed entry that cannot be applied stops every member, so one that no member could have proposed must not be appended: a
peer port without TLS accepts messages from anybody who knows the ids.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from tercet.raft.codec import MalformedMessage, conf_change_in
from tercet.raft.types import ConfChange, ConfChangeType, Entry
from tercet.replica.membership import Member
from tercet.replica.requests import decode_request
from tercet.replica.unsupported import UnsupportedRequest


def refusal_of(entries: Iterable[Entry]) -> str | None:
    """Why proposed entries must not be appended, None if they may."""
    for entry in entries:
        try:
            if entry.type:
                change = conf_change_in(entry)
                if isinstance(change, ConfChange) and change.type != ConfChangeType.REMOVE_NODE:
                    _check_member(change.context)
            elif entry.data:
                decode_request(entry.data)
        except (UnsupportedRequest, MalformedMessage) as unreadable:
            return str(unreadable)
        except ValueError as no_member:
            return f"it changes the configuration without a member: {no_member}"
    return None


def _check_member(context: bytes) -> None:
    """Raises ValueError."""
    raw: object = json.loads(context)
    if not isinstance(raw, dict):
        raise ValueError(f"not an object: {raw!r}")
    for name in ("peerURLs", "clientURLs"):
        if not _are_texts(raw.get(name)):
            raise ValueError(f"{name} is no list of strings")
    Member.from_json(raw)


def _are_texts(urls: object) -> bool:
    if not isinstance(urls, list):
        return urls is None
    return all(isinstance(url, str) for url in urls)
