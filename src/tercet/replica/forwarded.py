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
        except (UnsupportedRequest, MalformedMessage) as error:
            return str(error)
        except ValueError as error:
            return f"it changes the configuration without a member: {error}"
    return None


def _check_member(context: bytes) -> None:
    """Raises ValueError."""
    member = Member.from_json(json.loads(context))
    if not all(isinstance(url, str) for url in (*member.peer_urls, *member.client_urls)):
        raise ValueError("a URL is not a string")
