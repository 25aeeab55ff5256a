"""Generated from client/recipes/held_key.py by `python -m tercet.client.generate_sync`: do not edit."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from tercet.client.facade import Facade
from tercet.client.recipes.held_key import HeldKey
from tercet.client.sync.lease import SyncLease


class SyncHeldKey(Facade[HeldKey]):
    """Use it with `with`, which waits, or call `acquire` and `release`. It can be acquired again after a release."""

    def __repr__(self) -> str:
        return self._call(self._inner.__repr__)

    def acquire(self, timeout: float | None = None) -> bool:
        """Wait for the turn. Returns False after `timeout` seconds, or a `release` meanwhile; 0: as `try_acquire`.

        Before it returns False, or ends because it is cancelled, it makes sure that nothing is left in the line, which takes up
        to the TTL while no member can be reached. Raises LeaseLost, TercetError.
        """
        return self._run(self._inner.acquire(timeout))

    def try_acquire(self) -> bool:
        """Acquire if nobody has to be waited for. Raises LeaseLost, TercetError."""
        return self._run(self._inner.try_acquire())

    def release(self) -> None:
        """Give it up, or stop waiting for it; nothing happens if it is neither held nor waited for.

        Raises TercetError, LeaseLost if it was lost before.
        """
        self._run(self._inner.release())

    def __enter__(self) -> Self:
        self._run(self._inner.__aenter__())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Release. Raises LeaseLost if it was lost in the block, which was cancelled then."""
        self._run(self._inner.__aexit__(kind, error, trace))

    @property
    def key(self) -> bytes:
        """The own key, b"" when nothing is held or waited for."""
        return self._inner.key

    @property
    def token(self) -> int:
        """The fencing token, 0 when nothing is held or waited for."""
        return self._inner.token

    @property
    def is_held(self) -> bool:
        """Whether it was acquired and its lease is not lost, as far as this process knows."""
        return self._inner.is_held

    @property
    def lease(self) -> SyncLease | None:
        """The lease under which it is held or waited for."""
        made = self._inner.lease
        return SyncLease._of(made, self._bound_thread) if made is not None else None
