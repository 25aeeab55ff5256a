"""Iterators whose items arrive in groups: the keys of a page, the batches of one response.

An asynchronous consumer takes them one by one. A synchronous one takes those that have arrived without a switch to the loop's
thread, which costs ten times what an item costs (`make bench-clients`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Iterable
from typing import Generic, Protocol, Self, TypeVar, runtime_checkable

ItemT = TypeVar("ItemT")
ItemT_co = TypeVar("ItemT_co", covariant=True)


@runtime_checkable
class Arriving(Protocol[ItemT_co]):
    """An asynchronous iterator that holds items which have arrived."""

    def take_now(self) -> ItemT_co:
        """The next item. Any thread may call this. Raises IndexError if none has arrived."""
        ...


class Grouped(Generic[ItemT]):
    """An Arriving iterator of the items of `groups`; None: a subclass has its own `__anext__`."""

    def __init__(self, groups: AsyncGenerator[Iterable[ItemT], None] | None = None) -> None:
        self._groups = groups
        self._arrived: deque[ItemT] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ItemT:
        while True:
            if not self._arrived:
                if self._groups is None:
                    raise StopAsyncIteration
                self._arrived.extend(await anext(self._groups))
            try:
                return self._arrived.popleft()
            except IndexError:  # an empty group, or another thread was first
                continue

    def take_now(self) -> ItemT:
        return self._arrived.popleft()

    async def aclose(self) -> None:
        """End the iteration."""
        self._arrived.clear()
        if self._groups is not None:
            await self._groups.aclose()
