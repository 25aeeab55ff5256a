"""`stm` of the synchronous client, which is not generated: the function is called in the caller's thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from tercet.client.async_client import AsyncClient
from tercet.client.errors import Compacted
from tercet.client.facade import Facade
from tercet.client.key_space import Text
from tercet.client.recipes.stm import Attempts, Isolation

if TYPE_CHECKING:
    from tercet.client.sync.recipes.stm import SyncSTM

Result = TypeVar("Result")


class StmFacade(Facade[AsyncClient]):
    """The base of the generated SyncRecipeCalls."""

    def stm(
        self, function: Callable[[SyncSTM], Result], *, isolation: Isolation = "snapshot", prefetch: Iterable[Text] = ()
    ) -> Result:
        """Run `function` as one transaction over what it reads and writes, again until nothing has interfered.

        isolation: "snapshot" or "serializable" (see STM). prefetch: keys to read with one request before each run.
        Returns what the function returned. Raises its exceptions, TercetError, and Indeterminate if it may have happened.
        """
        from tercet.client.sync.recipes.stm import SyncSTM  # whose package imports this module

        attempts = Attempts(self._inner, isolation, prefetch)
        while True:
            try:
                run = self._run(attempts.begin())
                result = function(SyncSTM._of(run, self._thread))
            except Compacted:
                attempts.forget()
                continue
            if self._run(attempts.commit(run)):
                return result
