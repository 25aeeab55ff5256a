"""Calls of the KV service."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tercet.client import prefix_end
from tercet.compat import requests
from tercet.compat.etcd3 import etcdrpc
from tercet.compat.etcd3.connection import Connection, translated
from tercet.compat.transactions import Transactions, request_ops, to_bytes, txn_request, txn_results


class KVMetadata:
    """What a read tells of a key besides its value."""

    def __init__(self, keyvalue: Any, header: Any) -> None:
        self.key = keyvalue.key
        self.create_revision = keyvalue.create_revision
        self.mod_revision = keyvalue.mod_revision
        self.version = keyvalue.version
        self.lease_id = keyvalue.lease
        self.response_header = header


class KVCalls(Connection):
    """Keys are bytes, or str in UTF-8. Results named `_response` are protobuf messages."""

    transactions: Transactions

    @translated
    def get_response(self, key: Any, **kwargs: Any) -> Any:
        """The RangeResponse for one key, or with `range_end` for a range."""
        return self._invoke(self.kvstub.Range, self._build_get_range_request(key, **kwargs))

    def get(self, key: Any, **kwargs: Any) -> tuple[bytes | None, KVMetadata | None]:
        """Value and metadata; (None, None) if the key does not exist.

        Keywords of all reads: limit, revision, serializable, keys_only, count_only, {min,max}_{mod,create}_revision, sort_order
        ('ascend', 'descend') and sort_target ('key', 'version', 'create', 'mod', 'value'). Raises ValueError for other words.
        """
        response = self.get_response(key, **kwargs)
        if not response.kvs:
            return None, None
        return response.kvs[0].value, KVMetadata(response.kvs[0], response.header)

    @translated
    def get_prefix_response(self, key_prefix: Any, **kwargs: Any) -> Any:
        """The RangeResponse for all keys with a prefix."""
        if "key" in kwargs or "range_end" in kwargs:
            raise TypeError("Don't use key or range_end with prefix")
        request = self._build_get_range_request(key_prefix, range_end=prefix_end(to_bytes(key_prefix)), **kwargs)
        return self._invoke(self.kvstub.Range, request)

    def get_prefix(self, key_prefix: Any, **kwargs: Any) -> Iterator[tuple[bytes, KVMetadata]]:
        """(value, metadata) of all keys with a prefix. Unlike the other generators it calls the server at once."""
        return _pairs(self.get_prefix_response(key_prefix, **kwargs))

    @translated
    def get_range_response(
        self, range_start: Any, range_end: Any, sort_order: str | None = None, sort_target: str = "key", **kwargs: Any
    ) -> Any:
        """The RangeResponse for range_start <= key < range_end."""
        order = {"sort_order": sort_order, "sort_target": sort_target}
        return self._invoke(self.kvstub.Range, self._build_get_range_request(range_start, range_end, **order, **kwargs))

    def get_range(self, range_start: Any, range_end: Any, **kwargs: Any) -> Iterator[tuple[bytes, KVMetadata]]:
        """(value, metadata) of a range; the server is called when the iteration starts."""
        yield from _pairs(self.get_range_response(range_start, range_end, **kwargs))

    @translated
    def get_all_response(self, sort_order: str | None = None, sort_target: str = "key", keys_only: bool = False) -> Any:
        """The RangeResponse for all keys."""
        order = {"sort_order": sort_order, "sort_target": sort_target, "keys_only": keys_only}
        return self._invoke(self.kvstub.Range, self._build_get_range_request(b"\0", b"\0", **order))

    def get_all(self, **kwargs: Any) -> Iterator[tuple[bytes, KVMetadata]]:
        """(value, metadata) of all keys; the server is called when the iteration starts."""
        yield from _pairs(self.get_all_response(**kwargs))

    @translated
    def put(self, key: Any, value: Any, lease: Any = None, prev_kv: bool = False) -> Any:
        """Store a value. Returns the PutResponse. lease: a Lease or its ID."""
        return self._invoke(self.kvstub.Put, self._build_put_request(key, value, lease, prev_kv))

    @translated
    def put_if_not_exists(self, key: Any, value: Any, lease: Any = None) -> bool:
        """Store a value unless the key exists. Returns whether it was stored."""
        transactions = self.transactions
        status, _ = self.transaction([transactions.create(key) == 0], [transactions.put(key, value, lease=lease)], [])
        return status

    @translated
    def replace(self, key: Any, initial_value: Any, new_value: Any) -> bool:
        """Store a value if the present one is `initial_value`. Returns whether it was."""
        transactions = self.transactions
        status, _ = self.transaction([transactions.value(key) == initial_value], [transactions.put(key, new_value)], [])
        return status

    @translated
    def delete(self, key: Any, prev_kv: bool = False, return_response: bool = False) -> Any:
        """Delete a key. Returns whether it existed, or the DeleteRangeResponse."""
        response = self._invoke(self.kvstub.DeleteRange, self._build_delete_request(key, prev_kv=prev_kv))
        return response if return_response else response.deleted >= 1

    @translated
    def delete_prefix(self, prefix: Any) -> Any:
        """Delete all keys with a prefix. Returns the DeleteRangeResponse."""
        request = self._build_delete_request(prefix, range_end=prefix_end(to_bytes(prefix)))
        return self._invoke(self.kvstub.DeleteRange, request)

    @translated
    def transaction(self, compare: Any, success: Any = None, failure: Any = None) -> tuple[bool, list[Any]]:
        """Carry out `success` if all comparisons hold, else `failure`.

        Returns which it was, and an element for each operation: for `get` a list of (value, metadata), else the ResponseOp.
        """
        request = txn_request(compare, success, failure, to_bytes)
        return txn_results(self._invoke(self.kvstub.Txn, request), KVMetadata)

    @translated
    def compact(self, revision: int, physical: bool = False) -> None:
        """Forget superseded versions at or below a revision. physical: wait until their space is free."""
        self._invoke(self.kvstub.Compact, etcdrpc.CompactionRequest(revision=revision, physical=physical))

    @staticmethod
    def _build_get_range_request(key: Any, range_end: Any = None, **kwargs: Any) -> Any:
        return requests.range_request(to_bytes(key), None if range_end is None else to_bytes(range_end), **kwargs)

    @staticmethod
    def _build_put_request(key: Any, value: Any, lease: Any = None, prev_kv: bool = False) -> Any:
        return requests.put_request(to_bytes(key), to_bytes(value), lease, prev_kv)

    @staticmethod
    def _build_delete_request(key: Any, range_end: Any = None, prev_kv: bool = False) -> Any:
        return requests.delete_request(to_bytes(key), None if range_end is None else to_bytes(range_end), prev_kv)

    @staticmethod
    def _ops_to_requests(ops: Any) -> Any:
        return request_ops(ops, to_bytes)


def _pairs(response: Any) -> Iterator[tuple[bytes, KVMetadata]]:
    return ((kv.value, KVMetadata(kv, response.header)) for kv in response.kvs)
