"""Calls of the KV service."""

from __future__ import annotations

from typing import Any

from tercet.client import prefix_end
from tercet.compat import requests
from tercet.compat.aetcd import rtypes
from tercet.compat.aetcd.connection import Connection, connected
from tercet.compat.transactions import request_ops, txn_request, txn_results
from tercet.proto import rpc_pb2


class KVCalls(Connection):
    """Keys and values are bytes."""

    @connected
    async def get(self, key: bytes, serializable: bool = False) -> rtypes.Get | None:
        """The key, None if it does not exist."""
        response = await self._range(key, serializable=serializable)
        return rtypes.Get(response.header, response.kvs[0]) if response.kvs else None

    @connected
    async def get_prefix(
        self, key_prefix: bytes, sort_order: str | None = None, sort_target: str = "key", keys_only: bool = False
    ) -> rtypes.GetRange:
        """All keys with a prefix."""
        order: dict[str, Any] = {"sort_order": sort_order, "sort_target": sort_target, "keys_only": keys_only}
        return _found(await self._range(key_prefix, prefix_end(key_prefix), **order))

    @connected
    async def get_range(
        self, range_start: bytes, range_end: bytes, sort_order: str | None = None, sort_target: str = "key"
    ) -> rtypes.GetRange:
        """range_start <= key < range_end."""
        return _found(await self._range(range_start, range_end, sort_order=sort_order, sort_target=sort_target))

    @connected
    async def get_all(
        self, sort_order: str | None = None, sort_target: str = "key", keys_only: bool = False
    ) -> rtypes.GetRange:
        """All keys."""
        order: dict[str, Any] = {"sort_order": sort_order, "sort_target": sort_target, "keys_only": keys_only}
        return _found(await self._range(b"\0", b"\0", **order))

    @connected
    async def put(self, key: bytes, value: bytes, lease: Any = None, prev_kv: bool = False) -> rtypes.Put:
        """Store a value. lease: a Lease or its ID."""
        response = await self._invoke(self.kvstub.Put, self._build_put_request(key, value, lease, prev_kv))
        return rtypes.Put(response.header, response.prev_kv if prev_kv else None)

    @connected
    async def delete(self, key: bytes, prev_kv: bool = False) -> rtypes.Delete | None:
        """Delete a key. None if it does not exist."""
        response = await self._delete(key, None, prev_kv)
        if not response.deleted:
            return None
        return rtypes.Delete(response.header, response.deleted, response.prev_kvs[0] if prev_kv else None)

    @connected
    async def delete_prefix(self, key_prefix: bytes, prev_kv: bool = False) -> rtypes.DeleteRange:
        """Delete all keys with a prefix."""
        response = await self._delete(key_prefix, prefix_end(key_prefix), prev_kv)
        return rtypes.DeleteRange(response.header, response.deleted, response.prev_kvs)

    @connected
    async def delete_range(self, range_start: bytes, range_end: bytes, prev_kv: bool = False) -> rtypes.DeleteRange:
        """Delete range_start <= key < range_end."""
        response = await self._delete(range_start, range_end, prev_kv)
        return rtypes.DeleteRange(response.header, response.deleted, response.prev_kvs)

    @connected
    async def replace(self, key: bytes, initial_value: bytes, new_value: bytes, lease: Any = None) -> bool:
        """Store a value if the present one is `initial_value`. Returns whether it was."""
        transactions = self.transactions
        put = transactions.put(key, new_value, lease=lease)
        status, _ = await self.transaction([transactions.value(key) == initial_value], [put], [])
        return status

    @connected
    async def transaction(self, compare: Any, success: Any = None, failure: Any = None) -> tuple[bool, list[Any]]:
        """Carry out `success` if all comparisons hold, else `failure`.

        Returns which it was, and an element for each operation: for `get` a list of (value, Get), else the ResponseOp.
        """
        response = await self._invoke(self.kvstub.Txn, txn_request(compare, success, failure, _as_given))
        return txn_results(response, lambda kv, header: rtypes.Get(header, kv))

    @connected
    async def compact(self, revision: int, physical: bool = False) -> None:
        """Forget superseded versions at or below a revision. physical: wait until their space is free."""
        await self._invoke(self.kvstub.Compact, rpc_pb2.CompactionRequest(revision=revision, physical=physical))

    async def _range(self, key: bytes, range_end: bytes | None = None, **keywords: Any) -> Any:
        return await self._invoke(self.kvstub.Range, self._build_get_range_request(key, range_end, **keywords))

    async def _delete(self, key: bytes, range_end: bytes | None, prev_kv: bool) -> Any:
        return await self._invoke(self.kvstub.DeleteRange, self._build_delete_request(key, range_end, prev_kv))

    @staticmethod
    def _build_get_range_request(key: bytes, range_end: bytes | None = None, **keywords: Any) -> Any:
        return requests.range_request(key, range_end, **keywords)

    @staticmethod
    def _build_put_request(key: bytes, value: bytes, lease: Any = None, prev_kv: bool = False) -> Any:
        return requests.put_request(key, value, lease, prev_kv)

    @staticmethod
    def _build_delete_request(key: bytes, range_end: bytes | None = None, prev_kv: bool = False) -> Any:
        return requests.delete_request(key, range_end, prev_kv)

    def _ops_to_requests(self, ops: Any) -> Any:
        return request_ops(ops, _as_given)


def _found(response: Any) -> rtypes.GetRange:
    return rtypes.GetRange(response.header, response.kvs, response.more, response.count)


def _as_given(value: Any) -> Any:
    return value
