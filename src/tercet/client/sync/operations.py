"""Generated from client/operations.py by `python -m tercet.client.generate_sync`: do not edit."""

from __future__ import annotations

from collections.abc import Iterable

from tercet.client.async_client import AsyncClient
from tercet.client.facade import Facade
from tercet.client.key_space import Text
from tercet.client.operations import Compare, LeaseRef, NumberOperand, Operation, ValueOperand


class SyncOperations(Facade[AsyncClient]):
    """Builders of compares and operations; the keys are in the client's namespace.

    Each compare is of one key, or with `prefix=True` of every key that begins with it: then all of them must satisfy it.
    """

    def value(self, key: Text, *, prefix: bool = False) -> ValueOperand:
        return self._inner.value(key, prefix=prefix)

    def version(self, key: Text, *, prefix: bool = False) -> NumberOperand:
        return self._inner.version(key, prefix=prefix)

    def create_revision(self, key: Text, *, prefix: bool = False) -> NumberOperand:
        return self._inner.create_revision(key, prefix=prefix)

    def mod_revision(self, key: Text, *, prefix: bool = False) -> NumberOperand:
        return self._inner.mod_revision(key, prefix=prefix)

    def lease_of(self, key: Text, *, prefix: bool = False) -> NumberOperand:
        return self._inner.lease_of(key, prefix=prefix)

    def get_op(
        self, key: Text, *, prefix: bool = False, limit: int = 0, keys_only: bool = False, count_only: bool = False
    ) -> Operation:
        return self._inner.get_op(key, prefix=prefix, limit=limit, keys_only=keys_only, count_only=count_only)

    def put_op(self, key: Text, value: Text, *, lease: LeaseRef = 0, prev_kv: bool = False) -> Operation:
        return self._inner.put_op(key, value, lease=lease, prev_kv=prev_kv)

    def delete_op(self, key: Text, *, prefix: bool = False, prev_kv: bool = False) -> Operation:
        return self._inner.delete_op(key, prefix=prefix, prev_kv=prev_kv)

    def txn_op(
        self, when: Iterable[Compare] = (), then: Iterable[Operation] = (), else_: Iterable[Operation] = ()
    ) -> Operation:
        return self._inner.txn_op(when, then, else_)
