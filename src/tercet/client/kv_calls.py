"""Keys and values: the KV service as methods of a client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from typing import Literal, cast

from tercet.client import methods
from tercet.client.errors import Compacted, InvalidArgument, LockLost
from tercet.client.grouped import Grouped
from tercet.client.invoker import Invoker, Seconds
from tercet.client.key_space import KeySpace, Text, to_bytes
from tercet.client.operations import Compare, Guard, LeaseRef, Operation, Operations, lease_id, txn_request
from tercet.client.results import KV, Delete, Header, Put, Range, Txn
from tercet.client.retry import Retry
from tercet.errors import Code
from tercet.proto import rpc_pb2

SortBy = Literal["key", "version", "create_revision", "mod_revision", "value"]
_SORT_TARGETS = {
    "key": rpc_pb2.RangeRequest.KEY,
    "version": rpc_pb2.RangeRequest.VERSION,
    "create_revision": rpc_pb2.RangeRequest.CREATE,
    "mod_revision": rpc_pb2.RangeRequest.MOD,
    "value": rpc_pb2.RangeRequest.VALUE,
}
PAGE_KEYS = 1000


class KVCalls(Operations):
    """Every method takes `timeout` in seconds for all its attempts (`...`: the client's default, None: no limit) and `retry`.

    All raise TercetError; those that write raise Indeterminate when the outcome is unknown.
    """

    _invoker: Invoker
    _keys: KeySpace

    async def get(
        self,
        key: Text,
        *,
        revision: int = 0,
        serializable: bool = False,
        timeout: Seconds = ...,
        retry: Retry | None = None,
    ) -> KV | None:
        """The key as it is now, or was at `revision`; None if it does not exist.

        serializable: the answer of one member, which may be stale, without asking the others.
        """
        request = rpc_pb2.RangeRequest(key=self._keys.key(key), revision=revision, serializable=serializable)
        answer = await self._invoker.call(methods.RANGE, request, timeout=timeout, retry=retry)
        return KV.of(answer.kvs[0], self._keys) if answer.kvs else None

    async def get_range(
        self,
        start: Text,
        end: Text | None = None,
        *,
        limit: int = 0,
        revision: int = 0,
        sort_by: SortBy = "key",
        descending: bool = False,
        serializable: bool = False,
        keys_only: bool = False,
        min_mod_revision: int = 0,
        max_mod_revision: int = 0,
        min_create_revision: int = 0,
        max_create_revision: int = 0,
        timeout: Seconds = ...,
        retry: Retry | None = None,
    ) -> Range:
        """The keys from `start` up to, not including, `end`; None for all from `start`. 0: no limit, or no bound."""
        return await self._range(
            self._keys.range(start, end),
            _range_request(limit, revision, sort_by, descending, serializable, keys_only),
            (min_mod_revision, max_mod_revision, min_create_revision, max_create_revision),
            timeout,
            retry,
        )

    async def get_prefix(
        self,
        prefix: Text,
        *,
        limit: int = 0,
        revision: int = 0,
        sort_by: SortBy = "key",
        descending: bool = False,
        serializable: bool = False,
        keys_only: bool = False,
        min_mod_revision: int = 0,
        max_mod_revision: int = 0,
        min_create_revision: int = 0,
        max_create_revision: int = 0,
        timeout: Seconds = ...,
        retry: Retry | None = None,
    ) -> Range:
        """The keys that begin with `prefix`; all keys for ""."""
        return await self._range(
            self._keys.prefix(prefix),
            _range_request(limit, revision, sort_by, descending, serializable, keys_only),
            (min_mod_revision, max_mod_revision, min_create_revision, max_create_revision),
            timeout,
            retry,
        )

    def scan(
        self,
        prefix: Text,
        *,
        page_keys: int = PAGE_KEYS,
        revision: int = 0,
        serializable: bool = False,
        keys_only: bool = False,
        timeout: Seconds = ...,
        retry: Retry | None = None,
    ) -> AsyncIterator[KV]:
        """The keys that begin with `prefix`, in order, read in pages at one revision. timeout: of each page.

        Raises Compacted if that revision is compacted before the last page.
        """
        request = _range_request(page_keys, revision, "key", False, serializable, keys_only)
        return Grouped(self._pages(prefix, request, timeout, retry))

    async def _pages(
        self, prefix: Text, request: rpc_pb2.RangeRequest, timeout: Seconds, retry: Retry | None
    ) -> AsyncGenerator[tuple[KV, ...], None]:
        first, end = self._keys.prefix(prefix)
        while True:
            page = await self._range((first, end), request, (0, 0, 0, 0), timeout, retry)
            yield page.kvs
            if not page.more:
                return
            request.revision = request.revision or page.header.revision
            first = page.raw.kvs[-1].key + b"\0"

    async def count(
        self, prefix: Text, *, revision: int = 0, serializable: bool = False, timeout: Seconds = ..., retry: Retry | None = None
    ) -> int:
        """How many keys begin with `prefix`."""
        key, end = self._keys.prefix(prefix)
        request = rpc_pb2.RangeRequest(key=key, range_end=end, count_only=True, revision=revision, serializable=serializable)
        return (await self._invoker.call(methods.RANGE, request, timeout=timeout, retry=retry)).count

    async def history(self, key: Text, *, timeout: Seconds = ..., retry: Retry | None = None) -> AsyncIterator[KV]:
        """The versions of a key since its creation, newest first, as far as they are not compacted. One read for each."""
        revision = 0
        while True:
            try:
                kv = await self.get(key, revision=revision, timeout=timeout, retry=retry)
            except Compacted:
                return
            if kv is None:
                return
            yield kv
            if kv.version == 1:
                return
            revision = kv.mod_revision - 1

    async def put(
        self,
        key: Text,
        value: Text,
        *,
        lease: LeaseRef = 0,
        prev_kv: bool = False,
        timeout: Seconds = ...,
        retry: Retry | None = None,
    ) -> Put:
        """lease: the key is deleted with it. prev_kv: return what the key held before."""
        request = rpc_pb2.PutRequest(key=self._keys.key(key), value=to_bytes(value), lease=lease_id(lease), prev_kv=prev_kv)
        return Put.of(await self._invoker.call(methods.PUT, request, timeout=timeout, retry=retry), self._keys)

    async def delete(self, key: Text, *, prev_kv: bool = False, timeout: Seconds = ..., retry: Retry | None = None) -> Delete:
        """One key. The result is false if it did not exist."""
        return await self._delete((self._keys.key(key), b""), prev_kv, timeout, retry)

    async def delete_range(
        self, start: Text, end: Text | None = None, *, prev_kv: bool = False, timeout: Seconds = ..., retry: Retry | None = None
    ) -> Delete:
        """The keys from `start` up to, not including, `end`; None for all from `start`."""
        return await self._delete(self._keys.range(start, end), prev_kv, timeout, retry)

    async def delete_prefix(
        self, prefix: Text, *, prev_kv: bool = False, timeout: Seconds = ..., retry: Retry | None = None
    ) -> Delete:
        """All keys that begin with `prefix`."""
        return await self._delete(self._keys.prefix(prefix), prev_kv, timeout, retry)

    async def txn(
        self,
        when: Iterable[Compare] = (),
        then: Iterable[Operation] = (),
        else_: Iterable[Operation] = (),
        *,
        guard: Guard | None = None,
        timeout: Seconds = ...,
        retry: Retry | None = None,
    ) -> Txn:
        """Run `then` if all compares of `when` hold, else `else_`; as one revision.

        guard: a lock. If it is not held, nothing is changed, and LockLost is raised.
        """
        whole = self.txn_op(when, then, else_)
        if guard is None:
            request = whole.raw.request_txn
        elif not getattr(guard, "is_held", True):
            raise LockLost("the lock that guards the transaction is not held", Code.FAILED_PRECONDITION)
        else:
            request = txn_request([self.create_revision(guard.key) == guard.token], [whole], [])
        answer = await self._invoker.call(methods.TXN, request, timeout=timeout, retry=retry, is_read=whole.is_read)
        result = Txn.of(answer, self._keys)
        if guard is None:
            return result
        if not result.succeeded:
            text = f"the lock {guard.key!r} with token {guard.token} is not held any more"
            raise LockLost(text, Code.FAILED_PRECONDITION)
        inner = cast(Txn, result.results[0])
        return Txn(result.header, inner.succeeded, inner.results, inner.raw)

    async def put_if_absent(
        self, key: Text, value: Text, *, lease: LeaseRef = 0, timeout: Seconds = ..., retry: Retry | None = None
    ) -> bool:
        """Put unless the key exists. Returns whether it was put."""
        absent, put = self.create_revision(key) == 0, self.put_op(key, value, lease=lease)
        return bool(await self.txn([absent], [put], timeout=timeout, retry=retry))

    async def replace(
        self, key: Text, old: Text, new: Text, *, lease: LeaseRef = 0, timeout: Seconds = ..., retry: Retry | None = None
    ) -> bool:
        """Put `new` if the value is `old`. Returns whether it was put."""
        same, put = self.value(key) == old, self.put_op(key, new, lease=lease)
        return bool(await self.txn([same], [put], timeout=timeout, retry=retry))

    async def compact(
        self, revision: int, *, physical: bool = False, timeout: Seconds = ..., retry: Retry | None = None
    ) -> Header:
        """Forget superseded versions at or below `revision`. physical: return when their space is free."""
        request = rpc_pb2.CompactionRequest(revision=revision, physical=physical)
        answer = await self._invoker.call(methods.COMPACT, request, timeout=timeout, retry=retry, wait=physical)
        return Header.of(answer.header)

    async def _range(
        self,
        bounds: tuple[bytes, bytes],
        request: rpc_pb2.RangeRequest,
        revisions: tuple[int, int, int, int],
        timeout: Seconds,
        retry: Retry | None,
    ) -> Range:
        request.key, request.range_end = bounds
        request.min_mod_revision, request.max_mod_revision = revisions[:2]
        request.min_create_revision, request.max_create_revision = revisions[2:]
        return Range.of(await self._invoker.call(methods.RANGE, request, timeout=timeout, retry=retry), self._keys)

    async def _delete(self, bounds: tuple[bytes, bytes], prev_kv: bool, timeout: Seconds, retry: Retry | None) -> Delete:
        request = rpc_pb2.DeleteRangeRequest(key=bounds[0], range_end=bounds[1], prev_kv=prev_kv)
        answer = await self._invoker.call(methods.DELETE_RANGE, request, timeout=timeout, retry=retry)
        return Delete.of(answer, self._keys)


def _range_request(
    limit: int, revision: int, sort_by: SortBy, descending: bool, serializable: bool, keys_only: bool
) -> rpc_pb2.RangeRequest:
    if sort_by not in _SORT_TARGETS:
        raise InvalidArgument(f"sort_by is one of {', '.join(_SORT_TARGETS)}, not {sort_by}", Code.INVALID_ARGUMENT)
    order = rpc_pb2.RangeRequest.NONE
    if descending:
        order = rpc_pb2.RangeRequest.DESCEND
    elif sort_by != "key":
        order = rpc_pb2.RangeRequest.ASCEND
    return rpc_pb2.RangeRequest(
        limit=limit,
        revision=revision,
        sort_order=order,
        sort_target=_SORT_TARGETS[sort_by],
        serializable=serializable,
        keys_only=keys_only,
    )
