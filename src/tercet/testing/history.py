"""Records what clients did and what they were answered, to check afterwards that it was linearizable.

    history = History()
    client = history.record(tercet.Client(cluster.endpoints))
    client.put("a", "1")
    ...
    check_linearizable(history)                   # raises HistoryViolation

A write whose answer was lost (`Indeterminate`) may have happened, or may happen later: the check allows both. Any other error
means that nothing happened, and is left out. The checker is the simulator's (sim/linearizability.py): keys are absent at first.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from tercet.client import AsyncClient, Client, Indeterminate, TercetError
from tercet.sim import linearizability
from tercet.sim.history import HistoryViolation, Kind, Operation, Undecided

__all__ = ["History", "HistoryViolation", "Undecided", "check_linearizable"]

_SHOWN: Final = 200

Text = str | bytes


def check_linearizable(history: History | Iterable[Operation]) -> None:
    """Raises HistoryViolation with the first answer that no order of the operations explains; Undecided if that takes long."""
    linearizability.check_linearizable(history.operations if isinstance(history, History) else history)


class History:
    """Any number of clients, in any threads, may be recorded at once."""

    def __init__(self) -> None:
        self._operations: list[Operation] = []
        self._clients = 0
        self._lock = threading.Lock()

    @property
    def operations(self) -> list[Operation]:
        """In the order in which they began. Times are nanoseconds of `time.monotonic_ns`."""
        with self._lock:
            return list(self._operations)

    @property
    def text(self) -> str:
        """The last 200 operations, a line each."""
        return "\n".join(str(operation) for operation in self.operations[-_SHOWN:])

    def clear(self) -> None:
        """Forget everything, as the store does at a reset."""
        with self._lock:
            self._operations.clear()

    def record(self, client: Client) -> RecordedClient:
        """The client with its operations recorded; closing it stays the caller's."""
        return RecordedClient(self, client, self._next_client())

    def record_async(self, client: AsyncClient) -> RecordedAsyncClient:
        return RecordedAsyncClient(self, client, self._next_client())

    def _next_client(self) -> int:
        with self._lock:
            self._clients += 1
            return self._clients

    @contextmanager
    def operation(
        self, client: int, kind: Kind, key: Text, value: Text = b"", expected: Text | None = None
    ) -> Iterator[Operation]:
        """One operation; its block makes the call and notes the answer in it."""
        one = Operation(
            client,
            kind,
            _bytes(key),
            time.monotonic_ns(),
            value=_bytes(value),
            expected=None if expected is None else _bytes(expected),
        )
        with self._lock:
            self._operations.append(one)
        try:
            yield one
        except Indeterminate:
            raise
        except TercetError:
            with self._lock:
                self._operations.remove(one)
            raise
        one.returned = time.monotonic_ns()


class RecordedClient:
    """The operations of a Client that the check knows."""

    def __init__(self, history: History, client: Client, number: int) -> None:
        self._history = history
        self._client = client
        self._number = number

    def get(self, key: Text, **options: Any) -> Any:
        with self._history.operation(self._number, Kind.GET, key) as operation:
            return _note_found(operation, self._client.get(key, **options))

    def put(self, key: Text, value: Text, **options: Any) -> Any:
        with self._history.operation(self._number, Kind.PUT, key, value) as operation:
            return _note_effect(operation, self._client.put(key, value, **options), True)

    def delete(self, key: Text, **options: Any) -> Any:
        with self._history.operation(self._number, Kind.DELETE, key) as operation:
            result = self._client.delete(key, **options)
            return _note_effect(operation, result, bool(result))

    def put_if_absent(self, key: Text, value: Text, **options: Any) -> bool:
        with self._history.operation(self._number, Kind.CAS, key, value) as operation:
            when, then = _if_absent(self._client, key, value, options)
            return bool(_note_txn(operation, self._client.txn(when, then, **options)))

    def replace(self, key: Text, old: Text, new: Text, **options: Any) -> bool:
        with self._history.operation(self._number, Kind.CAS, key, new, old) as operation:
            when, then = _if_same(self._client, key, old, new, options)
            return bool(_note_txn(operation, self._client.txn(when, then, **options)))


class RecordedAsyncClient:
    """The operations of an AsyncClient that the check knows."""

    def __init__(self, history: History, client: AsyncClient, number: int) -> None:
        self._history = history
        self._client = client
        self._number = number

    async def get(self, key: Text, **options: Any) -> Any:
        with self._history.operation(self._number, Kind.GET, key) as operation:
            return _note_found(operation, await self._client.get(key, **options))

    async def put(self, key: Text, value: Text, **options: Any) -> Any:
        with self._history.operation(self._number, Kind.PUT, key, value) as operation:
            return _note_effect(operation, await self._client.put(key, value, **options), True)

    async def delete(self, key: Text, **options: Any) -> Any:
        with self._history.operation(self._number, Kind.DELETE, key) as operation:
            result = await self._client.delete(key, **options)
            return _note_effect(operation, result, bool(result))

    async def put_if_absent(self, key: Text, value: Text, **options: Any) -> bool:
        with self._history.operation(self._number, Kind.CAS, key, value) as operation:
            when, then = _if_absent(self._client, key, value, options)
            return bool(_note_txn(operation, await self._client.txn(when, then, **options)))

    async def replace(self, key: Text, old: Text, new: Text, **options: Any) -> bool:
        with self._history.operation(self._number, Kind.CAS, key, new, old) as operation:
            when, then = _if_same(self._client, key, old, new, options)
            return bool(_note_txn(operation, await self._client.txn(when, then, **options)))


def _if_absent(client: Client | AsyncClient, key: Text, value: Text, options: dict[str, Any]) -> tuple[Any, Any]:
    """`put_if_absent` as a transaction, whose answer has a revision; takes the lease out of the options."""
    return [client.create_revision(key) == 0], [client.put_op(key, value, lease=options.pop("lease", 0))]


def _if_same(client: Client | AsyncClient, key: Text, old: Text, new: Text, options: dict[str, Any]) -> tuple[Any, Any]:
    return [client.value(key) == old], [client.put_op(key, new, lease=options.pop("lease", 0))]


def _note_txn(operation: Operation, result: Any) -> Any:
    return _note_effect(operation, result, bool(result))


def _note_found(operation: Operation, found: Any) -> Any:
    if found is not None:
        operation.found = found.value
        operation.mod_revision = found.mod_revision
    return found


def _note_effect(operation: Operation, result: Any, took_effect: bool) -> Any:
    operation.took_effect = took_effect
    operation.revision = result.header.revision
    return result


def _bytes(text: Text) -> bytes:
    return text.encode() if isinstance(text, str) else text
