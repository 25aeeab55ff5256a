"""Generated from client/lease.py by `python -m tercet.client.generate_sync`: do not edit."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from tercet.client.facade import Facade
from tercet.client.lease import Lease
from tercet.client.lease_calls import LeaseInfo


class SyncLease(Facade[Lease]):
    """`id` and `ttl_seconds` are those of the server, after `start`. A lease can be started once."""

    @property
    def id(self) -> int:
        return self._inner.id

    @property
    def ttl_seconds(self) -> int:
        return self._inner.ttl_seconds

    def __repr__(self) -> str:
        return self._call(self._inner.__repr__)

    def start(self) -> Self:
        """Grant the lease and keep it alive until `revoke` or `forget`. Raises LeaseExists for a given ID, TercetError."""
        self._run(self._inner.start())
        return self

    def __enter__(self) -> Self:
        self._run(self._inner.__aenter__())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Revoke the lease; a member that cannot be reached lets it expire. Raises LeaseLost if it was lost in the block."""
        self._run(self._inner.__aexit__(kind, error, trace))

    @property
    def is_lost(self) -> bool:
        return self._inner.is_lost

    @property
    def remaining_seconds(self) -> float:
        """Until the lease counts as lost unless it is renewed. Local: no request is made."""
        return self._inner.remaining_seconds

    def wait_lost(self) -> None:
        """Wait until the lease is lost."""
        self._run(self._inner.wait_lost())

    def on_lost(self, callback: Callable[[], object]) -> None:
        """Call `callback` in the event loop when the lease is lost; at once if it is. It must not block.

        What it raises is logged.
        """
        self._call(self._inner.on_lost, callback)

    def info(self, *, keys: bool = False) -> LeaseInfo:
        """What the cluster knows of the lease. Raises LeaseNotFound, TercetError."""
        return self._run(self._inner.info(keys=keys))

    def revoke(self) -> None:
        """End the lease and delete its keys; it does not count as lost. If it is gone already, nothing happens."""
        self._run(self._inner.revoke())

    def forget(self) -> None:
        """Stop keeping the lease alive: its keys outlive this call by up to a TTL."""
        self._call(self._inner.forget)
