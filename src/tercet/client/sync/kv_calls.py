"""Generated from client/kv_calls.py by `python -m tercet.client.generate_sync`: do not edit."""

from __future__ import annotations

from collections.abc import Iterable

from tercet.client.facade import Items
from tercet.client.invoker import Seconds
from tercet.client.key_space import Text
from tercet.client.kv_calls import PAGE_KEYS, SortBy
from tercet.client.operations import Compare, Guard, LeaseRef, Operation
from tercet.client.results import KV, Delete, Header, Put, Range, Txn
from tercet.client.retry import Retry
from tercet.client.sync.operations import SyncOperations


class SyncKVCalls(SyncOperations):
    """Every method takes `timeout` in seconds for all its attempts (`...`: the client's default, None: no limit) and `retry`.

    All raise TercetError; those that write raise Indeterminate when the outcome is unknown.
    """

    def get(
        self, key: Text, *, revision: int = 0, serializable: bool = False, timeout: Seconds = ..., retry: Retry | None = None
    ) -> KV | None:
        """The key as it is now, or was at `revision`; None if it does not exist.

        serializable: the answer of one member, which may be stale, without asking the others.
        """
        return self._run(self._inner.get(key, revision=revision, serializable=serializable, timeout=timeout, retry=retry))

    def get_range(
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
        return self._run(
            self._inner.get_range(
                start,
                end,
                limit=limit,
                revision=revision,
                sort_by=sort_by,
                descending=descending,
                serializable=serializable,
                keys_only=keys_only,
                min_mod_revision=min_mod_revision,
                max_mod_revision=max_mod_revision,
                min_create_revision=min_create_revision,
                max_create_revision=max_create_revision,
                timeout=timeout,
                retry=retry,
            )
        )

    def get_prefix(
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
        return self._run(
            self._inner.get_prefix(
                prefix,
                limit=limit,
                revision=revision,
                sort_by=sort_by,
                descending=descending,
                serializable=serializable,
                keys_only=keys_only,
                min_mod_revision=min_mod_revision,
                max_mod_revision=max_mod_revision,
                min_create_revision=min_create_revision,
                max_create_revision=max_create_revision,
                timeout=timeout,
                retry=retry,
            )
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
    ) -> Items[KV]:
        """The keys that begin with `prefix`, in order, read in pages at one revision. timeout: of each page.

        Raises Compacted if that revision is compacted before the last page.
        """
        return self._iterate(
            self._inner.scan(
                prefix,
                page_keys=page_keys,
                revision=revision,
                serializable=serializable,
                keys_only=keys_only,
                timeout=timeout,
                retry=retry,
            )
        )

    def count(
        self, prefix: Text, *, revision: int = 0, serializable: bool = False, timeout: Seconds = ..., retry: Retry | None = None
    ) -> int:
        """How many keys begin with `prefix`."""
        return self._run(self._inner.count(prefix, revision=revision, serializable=serializable, timeout=timeout, retry=retry))

    def history(self, key: Text, *, timeout: Seconds = ..., retry: Retry | None = None) -> Items[KV]:
        """The versions of a key since its creation, newest first, as far as they are not compacted. One read for each."""
        return self._iterate(self._inner.history(key, timeout=timeout, retry=retry))

    def put(
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
        return self._run(self._inner.put(key, value, lease=lease, prev_kv=prev_kv, timeout=timeout, retry=retry))

    def delete(self, key: Text, *, prev_kv: bool = False, timeout: Seconds = ..., retry: Retry | None = None) -> Delete:
        """One key. The result is false if it did not exist."""
        return self._run(self._inner.delete(key, prev_kv=prev_kv, timeout=timeout, retry=retry))

    def delete_range(
        self, start: Text, end: Text | None = None, *, prev_kv: bool = False, timeout: Seconds = ..., retry: Retry | None = None
    ) -> Delete:
        """The keys from `start` up to, not including, `end`; None for all from `start`."""
        return self._run(self._inner.delete_range(start, end, prev_kv=prev_kv, timeout=timeout, retry=retry))

    def delete_prefix(
        self, prefix: Text, *, prev_kv: bool = False, timeout: Seconds = ..., retry: Retry | None = None
    ) -> Delete:
        """All keys that begin with `prefix`."""
        return self._run(self._inner.delete_prefix(prefix, prev_kv=prev_kv, timeout=timeout, retry=retry))

    def txn(
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
        return self._run(self._inner.txn(when, then, else_, guard=guard, timeout=timeout, retry=retry))

    def put_if_absent(
        self, key: Text, value: Text, *, lease: LeaseRef = 0, timeout: Seconds = ..., retry: Retry | None = None
    ) -> bool:
        """Put unless the key exists. Returns whether it was put."""
        return self._run(self._inner.put_if_absent(key, value, lease=lease, timeout=timeout, retry=retry))

    def replace(
        self, key: Text, old: Text, new: Text, *, lease: LeaseRef = 0, timeout: Seconds = ..., retry: Retry | None = None
    ) -> bool:
        """Put `new` if the value is `old`. Returns whether it was put."""
        return self._run(self._inner.replace(key, old, new, lease=lease, timeout=timeout, retry=retry))

    def compact(self, revision: int, *, physical: bool = False, timeout: Seconds = ..., retry: Retry | None = None) -> Header:
        """Forget superseded versions at or below `revision`. physical: return when their space is free."""
        return self._run(self._inner.compact(revision, physical=physical, timeout=timeout, retry=retry))
