"""Checks proposals that another member has forwarded, before the leader appends them.

A committed entry that cannot be applied stops every member, so one that no member could have proposed must not be appended: a
peer port without TLS accepts messages from anybody who knows the ids.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Final

from tercet.proto import internal_pb2
from tercet.raft.codec import MalformedMessage, conf_change_in
from tercet.raft.types import ConfChange, ConfChangeType, Entry
from tercet.replica.requests import AppliedRequest, decode_request
from tercet.replica.unsupported import JOINT_CHANGE, UnsupportedRequest

_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")  # not in UTF-8, so it cannot be sent to clients
_MEMBER_ID: Final = re.compile(r"[0-9a-f]{1,16}")
_VERSION: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9}){2}")


class _NotProposed(Exception):
    """No member proposes this."""


def refusal_of(entries: Iterable[Entry], *, allows_joint_changes: bool) -> str | None:
    """Why proposed entries must not be appended, None if they may."""
    for entry in entries:
        try:
            if entry.type:
                change = conf_change_in(entry)
                if isinstance(change, ConfChange):
                    _check_change(change)
                elif not allows_joint_changes:
                    return f"it is {JOINT_CHANGE}"
            elif entry.data:
                _check_request(decode_request(entry.data))
        except (UnsupportedRequest, MalformedMessage, _NotProposed) as refused:
            return str(refused)
    return None


def _check_change(change: ConfChange) -> None:
    if change.type == ConfChangeType.REMOVE_NODE:
        return
    raw = _attributes_in(change.context)
    member_id = raw.get("id")
    if type(member_id) is not int or member_id != change.node_id:
        raise _NotProposed(f"it changes the configuration by member {change.node_id:x} with the attributes of another")


def _check_request(request: AppliedRequest) -> None:
    if request.field == "cluster_version_set":
        _check_version(request.message.ver)
    elif request.field == "v2":
        older: internal_pb2.Request = request.message
        parts = older.Path.strip("/").split("/")  # as Membership.apply_v2 reads them
        if parts == ["0", "version"]:
            _check_version(older.Val)
        elif len(parts) == 4 and parts[:2] == ["0", "members"] and parts[3] == "attributes":
            if not _MEMBER_ID.fullmatch(parts[2]):
                raise _NotProposed("it names no member")
            _attributes_in(older.Val)


def _check_version(version: str) -> None:
    if not _VERSION.fullmatch(version):
        raise _NotProposed(f"it sets a malformed cluster version: {version[:20]!r}")


def _attributes_in(text: str | bytes) -> dict[str, object]:
    """A member's attributes in etcd's JSON."""
    try:
        raw: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _NotProposed(f"it holds no attributes of a member: {error}") from error
    if not isinstance(raw, dict):
        raise _NotProposed("it holds no attributes of a member: no JSON object")
    for shown in (raw.get("name") or "", *_list_in(raw, "peerURLs"), *_list_in(raw, "clientURLs")):
        if not isinstance(shown, str) or _SURROGATE.search(shown):
            raise _NotProposed("it holds a member's name or URL that is no text")
    return raw


def _list_in(raw: dict[str, object], name: str) -> list[object]:
    value = raw.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise _NotProposed(f"it holds {name} that are no list")
    return value
