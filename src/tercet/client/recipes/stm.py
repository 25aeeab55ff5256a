"""Software transactional memory: a function that reads and writes keys, repeated until it ran as if alone.

    async def transfer(txn: STM) -> None:
        a, b = int(await txn.get("a") or 0), int(await txn.get("b") or 0)
        txn.put("a", str(a - 1))
        txn.put("b", str(b + 1))
    await client.stm(transfer)

Reads are made at one revision, that of the first. Writes are kept until the function returns, and then sent as one
transaction, which compares what was read; if any of it has changed, the answer brings the present values, and the function runs
again. It must have no other effects.

- "snapshot": neither a key that was read nor one that is written has changed since the first read. The default.
- "serializable": no key that was read has changed. Blind writes may overwrite what another has written since.
Source: etcd client/v3/concurrency/stm.go; its weaker levels are left out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Literal, TypeVar

from tercet.client.core_calls import CoreCalls
from tercet.client.errors import Compacted
from tercet.client.key_space import Text, to_bytes
from tercet.client.operations import Compare, LeaseRef, Operation
from tercet.client.results import KV, Range, Txn

Isolation = Literal["snapshot", "serializable"]
Result = TypeVar("Result")


class STM:
    """One run of the function: what it has read and wants to write."""

    def __init__(self, client: CoreCalls, known: dict[bytes, KV | None], revision: int) -> None:
        """known: keys as they were at `revision`, from the answer to the run before; 0 for the first run."""
        self._client = client
        self._known = known
        self._read: dict[bytes, KV | None] = {}
        self._writes: dict[bytes, tuple[bytes | None, Operation]] = {}
        self.revision = revision

    async def get(self, key: Text) -> bytes | None:
        """The value as the function has written it, or as it was at the revision of the first read; None if it is absent."""
        name = to_bytes(key)
        if name in self._writes:
            return self._writes[name][0]
        kv = await self.get_kv(key)
        return kv.value if kv else None

    async def get_kv(self, key: Text) -> KV | None:
        """The key as it was at the revision of the first read. Raises TercetError."""
        name = to_bytes(key)
        if name not in self._read:
            if name not in self._known:
                await self.prefetch([key])
            self._read[name] = self._known[name]
        return self._read[name]

    async def prefetch(self, keys: Iterable[Text]) -> None:
        """Read several keys with one request. They count as read once the function gets them. Raises TercetError."""
        names = [name for key in keys if (name := to_bytes(key)) not in self._known]
        if not names:
            return
        if self.revision:  # the same revision on any member
            for name in names:
                self._known[name] = await self._client.get(name, revision=self.revision)
            return
        answer = await self._client.txn(then=[self._client.get_op(name) for name in names])
        self.revision = answer.header.revision
        self._known.update(zip(names, map(_first, answer.results), strict=True))

    def put(self, key: Text, value: Text, *, lease: LeaseRef = 0) -> None:
        """Write a key, if the function returns and nothing has changed."""
        self._writes[to_bytes(key)] = (to_bytes(value), self._client.put_op(key, value, lease=lease))

    def delete(self, key: Text) -> None:
        """Delete a key, if the function returns and nothing has changed."""
        self._writes[to_bytes(key)] = (None, self._client.delete_op(key))

    async def commit(self, isolation: Isolation) -> tuple[Txn, dict[bytes, KV | None]]:
        """Returns the transaction, and if it did not succeed the present state of what was read. Raises TercetError."""
        client, read = self._client, list(self._read)
        writes = [operation for _, operation in self._writes.values()]
        answer = await client.txn(self._conflicts(isolation), writes, [client.get_op(key) for key in read])
        present = {} if answer.succeeded else dict(zip(read, map(_first, answer.results), strict=True))
        return answer, present

    def _conflicts(self, isolation: Isolation) -> list[Compare]:
        client = self._client
        compares = [client.mod_revision(key) == (kv.mod_revision if kv else 0) for key, kv in self._read.items()]
        if isolation == "snapshot" and self._read:
            compares += [client.mod_revision(key) <= self.revision for key in self._writes if key not in self._read]
        return compares


def _first(found: object) -> KV | None:
    assert isinstance(found, Range)
    return found[0] if found else None


class Attempts:
    """The runs of one function. `begin` gives each run its STM; `commit` says whether it was the last."""

    def __init__(self, client: CoreCalls, isolation: Isolation, prefetch: Iterable[Text]) -> None:
        self._client = client
        self._isolation = isolation
        self._prefetch = tuple(prefetch)
        self._known: dict[bytes, KV | None] = {}
        self._revision = 0

    async def begin(self) -> STM:
        """Raises TercetError."""
        run = STM(self._client, self._known, self._revision)
        await run.prefetch(self._prefetch)
        return run

    async def commit(self, run: STM) -> bool:
        """Raises TercetError, Indeterminate."""
        answer, self._known = await run.commit(self._isolation)
        self._revision = answer.header.revision if self._known else 0
        return answer.succeeded

    def forget(self) -> None:
        """The revision of the first read is compacted: the next run starts with the present."""
        self._known, self._revision = {}, 0


async def run_stm(attempts: Attempts, function: Callable[[STM], Awaitable[Result]]) -> Result:
    """See RecipeCalls.stm."""
    while True:
        try:
            run = await attempts.begin()
            result = await function(run)
        except Compacted:
            attempts.forget()
            continue
        if await attempts.commit(run):
            return result
