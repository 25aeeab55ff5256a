"""Requests from the keywords that both clients have."""

from __future__ import annotations

from typing import Any

from tercet.proto import rpc_pb2

_SORT_ORDERS = {
    None: rpc_pb2.RangeRequest.NONE,
    "ascend": rpc_pb2.RangeRequest.ASCEND,
    "descend": rpc_pb2.RangeRequest.DESCEND,
}
_SORT_TARGETS = {
    None: rpc_pb2.RangeRequest.KEY,
    "key": rpc_pb2.RangeRequest.KEY,
    "version": rpc_pb2.RangeRequest.VERSION,
    "create": rpc_pb2.RangeRequest.CREATE,
    "mod": rpc_pb2.RangeRequest.MOD,
    "value": rpc_pb2.RangeRequest.VALUE,
}
_ALARM_ACTIONS = {
    "get": rpc_pb2.AlarmRequest.GET,
    "activate": rpc_pb2.AlarmRequest.ACTIVATE,
    "deactivate": rpc_pb2.AlarmRequest.DEACTIVATE,
}
_ALARM_TYPES = {"none": rpc_pb2.NONE, "no space": rpc_pb2.NOSPACE}


def range_request(
    key: bytes,
    range_end: bytes | None = None,
    *,
    limit: int | None = None,
    revision: int | None = None,
    sort_order: str | None = None,
    sort_target: str | None = "key",
    serializable: bool = False,
    keys_only: bool = False,
    count_only: bool = False,
    min_mod_revision: int | None = None,
    max_mod_revision: int | None = None,
    min_create_revision: int | None = None,
    max_create_revision: int | None = None,
) -> rpc_pb2.RangeRequest:
    """Raises ValueError for an unknown sort order or target."""
    if sort_order not in _SORT_ORDERS:
        raise ValueError(f'unknown sort order: "{sort_order}"')
    if sort_target not in _SORT_TARGETS:
        raise ValueError('sort_target must be one of "key", "version", "create", "mod" or "value"')
    return rpc_pb2.RangeRequest(
        key=key,
        range_end=range_end or b"",
        limit=limit or 0,
        revision=revision or 0,
        sort_order=_SORT_ORDERS[sort_order],
        sort_target=_SORT_TARGETS[sort_target],
        serializable=serializable,
        keys_only=keys_only,
        count_only=count_only,
        min_mod_revision=min_mod_revision or 0,
        max_mod_revision=max_mod_revision or 0,
        min_create_revision=min_create_revision or 0,
        max_create_revision=max_create_revision or 0,
    )


def put_request(key: bytes, value: bytes, lease: Any, prev_kv: bool) -> rpc_pb2.PutRequest:
    """lease: an object with an `id`, an int, or None."""
    return rpc_pb2.PutRequest(key=key, value=value, lease=lease_to_id(lease), prev_kv=prev_kv)


def delete_request(key: bytes, range_end: bytes | None, prev_kv: bool) -> rpc_pb2.DeleteRangeRequest:
    return rpc_pb2.DeleteRangeRequest(key=key, range_end=range_end or b"", prev_kv=prev_kv)


def alarm_request(action: str, member_id: int, alarm_type: str) -> rpc_pb2.AlarmRequest:
    """Raises ValueError for an unknown action or type."""
    if action not in _ALARM_ACTIONS:
        raise ValueError(f"Unknown alarm action: {action}")
    if alarm_type not in _ALARM_TYPES:
        raise ValueError(f"Unknown alarm type: {alarm_type}")
    return rpc_pb2.AlarmRequest(action=_ALARM_ACTIONS[action], memberID=member_id, alarm=_ALARM_TYPES[alarm_type])


def lease_to_id(lease: Any) -> int:
    """The ID of a lease, given the object or the ID; 0 for None."""
    if hasattr(lease, "id"):
        return int(lease.id)
    return 0 if lease is None else int(lease)
