"""Generated from client/recipes/party.py by `python -m tercet.client.generate_sync`: do not edit."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from tercet.client.facade import Facade, Items
from tercet.client.key_space import Text
from tercet.client.recipes.party import Party, PartyMember
from tercet.client.results import KV
from tercet.client.sync.lease import SyncLease


class SyncParty(Facade[Party]):
    """The members of a group. `join` adds this process."""

    def join(self, value: Text = b"") -> SyncPartyMember:
        """A block in which this process is a member; it is cancelled if the lease is lost."""
        made = self._call(self._inner.join, value)
        return SyncPartyMember._of(made, self._thread)

    def members(self) -> tuple[KV, ...]:
        """In the order in which they joined. Raises TercetError."""
        return self._run(self._inner.members())

    def observe(self) -> Items[tuple[KV, ...]]:
        """The members now, and again after each change. Raises TercetError."""
        return self._iterate(self._inner.observe())


class SyncPartyMember(Facade[PartyMember]):
    """A membership, as the block of `SyncParty.join`."""

    @property
    def lease(self) -> SyncLease:
        made = self._inner.lease
        return SyncLease._of(made, self._bound_thread)

    @property
    def key(self) -> bytes:
        return self._inner.key

    def __enter__(self) -> Self:
        self._run(self._inner.__aenter__())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._run(self._inner.__aexit__(kind, error, trace))

    def set_value(self, value: Text) -> None:
        """Replace the member's value. Raises LeaseNotFound if the membership has ended, TercetError."""
        self._run(self._inner.set_value(value))
