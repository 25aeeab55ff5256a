"""Generated from client/recipes/election.py by `python -m tercet.client.generate_sync`: do not edit."""

from __future__ import annotations

from typing import Self

from tercet.client.facade import Items
from tercet.client.key_space import Text
from tercet.client.recipes.election import Election
from tercet.client.results import KV
from tercet.client.sync.recipes.lock import SyncLineKey


class SyncElection(SyncLineKey):
    """One candidate's view of an election. Observing needs no candidacy. As a guard of transactions it works like a lock."""

    _inner: Election

    def campaign(self, value: Text, timeout: float | None = None) -> bool:
        """Wait until this process leads, and propose `value`. Returns False after `timeout` seconds.

        Raises LeaseLost, TercetError.
        """
        return self._run(self._inner.campaign(value, timeout))

    def lead(self, value: Text) -> Self:
        """Set the value to propose, and return this election as a block.

        The block waits for the leadership, is cancelled when it is lost, and resigns at its end.
        """
        self._call(self._inner.lead, value)
        return self

    def proclaim(self, value: Text) -> None:
        """Replace the leader's value. Raises LockLost if this process does not lead any more."""
        self._run(self._inner.proclaim(value))

    def resign(self) -> None:
        """Give the leadership or the candidacy up. Raises TercetError, LeaseLost if it was lost before."""
        self._run(self._inner.resign())

    def leader(self) -> KV | None:
        """The leader's key, whose value is its proposal; None if nobody leads. Raises TercetError."""
        return self._run(self._inner.leader())

    def observe(self) -> Items[KV]:
        """The leader's key, each of its new values, then the next leader, and so on. Raises TercetError."""
        return self._iterate(self._inner.observe())
